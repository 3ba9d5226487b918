import json
import os

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from quant.errors import DataError, UsageError
from search import files
from search.settings import changed_keys, refuse_changes


def test_json_is_versioned_and_leaves_no_temporary_file(tmp_path):
    files.write_json(tmp_path / "a.json", {"x": 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"schema_version": 1, "x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    files.write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text())["x"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_tables_carry_their_schema_version(tmp_path):
    files.write_table(tmp_path / "t.parquet", pd.DataFrame({"a": [1, 2]}))
    meta = pq.read_schema(tmp_path / "t.parquet").metadata
    assert meta[b"bitfront.schema_version"] == b"1"
    assert pd.read_parquet(tmp_path / "t.parquet")["a"].tolist() == [1, 2]


def test_fresh_sets_an_old_run_aside_and_loses_nothing(tmp_path):
    run = tmp_path / "demo"
    for _ in range(3):
        files.prepare_run_dir(run, "fresh")
        files.write_json(run / "manifest.json", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo", "demo.1", "demo.2"]


def test_auto_keeps_what_is_there(tmp_path):
    files.prepare_run_dir(tmp_path / "demo", "auto")
    files.write_json(tmp_path / "demo" / "manifest.json", {})
    files.prepare_run_dir(tmp_path / "demo", "auto")
    assert (tmp_path / "demo" / "manifest.json").exists()


def test_a_run_of_a_newer_schema_is_refused_and_left_as_it_is(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "manifest.json").write_text('{"schema_version": 99}')
    for resume in ("auto", "extend"):
        with pytest.raises(DataError, match=r"(?s)schema version 99.*upgrade bitfront"):
            files.prepare_run_dir(run, resume)
    assert [path.name for path in run.iterdir()] == ["manifest.json"]
    files.prepare_run_dir(run, "fresh")
    assert (tmp_path / "run.1" / "manifest.json").read_text() == '{"schema_version": 99}'


@pytest.mark.parametrize("text", ["", "[]", '{"no": 1}', '{"schema_version": 1}'])
def test_any_other_manifest_does_not_keep_a_study_from_going_on(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    files.prepare_run_dir(tmp_path, "auto")


def test_a_run_directory_below_a_file_is_refused(tmp_path):
    (tmp_path / "plain").write_text("")
    with pytest.raises(DataError, match=r"(?s)cannot be written.*run_dir=PATH"):
        files.prepare_run_dir(tmp_path / "plain" / "run", "auto")


def test_a_failed_table_leaves_the_old_one_and_no_half(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    files.write_table(path, pd.DataFrame({"a": [1]}))
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    with pytest.raises(OSError, match="No space"):
        files.write_table(path, pd.DataFrame({"a": [2]}))
    assert [item.name for item in tmp_path.iterdir()] == ["t.parquet"]
    assert path.read_bytes() == before


def test_source_date_epoch_is_honoured(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert files.now() == "1970-01-01T00:00:00Z"


def test_the_environment_names_versions_and_no_host():
    found = files.environment()
    assert found["packages"]["torch"].startswith("2.13")
    assert os.uname().nodename not in json.dumps(found)


def test_changed_keys_are_listed_with_both_values():
    old = {"space": {"name": "a", "bits": 4}, "seeds": [0]}
    new = {"space": {"name": "b", "bits": 4}, "seeds": [0], "task": {}}
    assert changed_keys(old, new) == ["space.name: a -> b", "task: None -> {}"]


def test_resuming_another_study_is_refused_with_the_difference():
    old = {"space": {"name": "a"}, "budget": {"evaluations": 1}}
    with pytest.raises(UsageError, match=r"(?s)space.name: a -> b.*resume=fresh"):
        refuse_changes(old, {"space": {"name": "b"}, "budget": {"evaluations": 1}}, "demo")
    refuse_changes(old, {"space": {"name": "a"}, "budget": {"evaluations": 9}}, "demo")


def test_extending_may_add_strategies_and_seeds_but_change_nothing():
    old = {"space": {"name": "a"}, "strategy": {"random": {"x": 1}}, "seeds": [0]}
    more = {**old, "strategy": {"random": {"x": 1}, "hawq": {}}, "seeds": [0, 1]}
    with pytest.raises(UsageError, match=r"(?s)seeds: \[0\] -> \[0, 1\].*resume=extend"):
        refuse_changes(old, more, "demo")
    refuse_changes(old, more, "demo", extend=True)
    for worse in (
        {**old, "strategy": {"random": {"x": 2}}},
        {**old, "strategy": {"hawq": {}}},
        {**old, "seeds": [1]},
        {**more, "space": {"name": "b"}},
    ):
        with pytest.raises(UsageError, match="another configuration"):
            refuse_changes(old, worse, "demo", extend=True)


def test_arrays_come_back_without_pickle_and_objects_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    files.write_arrays(path, {"x": np.arange(3)})
    with np.load(path, allow_pickle=False) as found:
        assert found["x"].tolist() == [0, 1, 2]
        assert int(found["schema_version"]) == 1
    with pytest.raises(ValueError, match=r"a\.npz: arrays of objects"):
        files.write_arrays(path, {"x": np.array([{}])})
    assert [item.name for item in tmp_path.iterdir()] == ["a.npz"]
