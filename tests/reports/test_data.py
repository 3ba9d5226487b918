import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from quant.errors import DataError
from reports.data import load_run, shown_path
from tests.support.synthetic_run import Recipe, write_run


@pytest.fixture
def copy(demo, tmp_path):
    target = tmp_path / "runs" / "demo"
    shutil.copytree(demo, target, ignore=shutil.ignore_patterns("report.html"))
    return target


def test_everything_is_read(data):
    recipe = Recipe()
    trials = len(recipe.strategies) * len(recipe.seeds)
    assert len(data.table) == 6 + trials * recipe.per_trial
    assert data.strategies() == recipe.strategies
    assert len(data.trials()) == trials
    assert data.costs == ("size_bytes", "latency_ms")
    assert data.quality == "ce"
    assert data.path == "runs/demo"
    assert data.state == "finished"


def test_unique_keeps_one_row_per_policy_and_prefers_success(data):
    assert data.unique["policy_id"].is_unique
    assert set(data.unique["policy_id"]) == set(data.table["policy_id"])
    succeeded = set(data.ok["policy_id"])
    assert (data.unique["status"] == "ok").sum() == len(succeeded)


def test_front_table_rises_in_cost_and_falls_in_loss(data):
    front = data.front_table("size_bytes")
    assert front["policy_id"].tolist() == list(data.front.fronts["size_bytes"])
    assert (np.diff(front["size_bytes"]) > 0).all()
    assert (np.diff(front["ce"]) < 0).all()


def test_latency_error_is_the_mean_relative_error(data):
    check = data.latency_check[data.latency_check["drawn"] == "random"]
    measured = (check.measured_ms + check.measured_again_ms) / 2
    expected = np.mean(abs(check.predicted_ms / measured - 1))
    assert data.latency_error() == pytest.approx(expected)


def test_optional_files_may_be_missing(copy):
    for name in ("sensitivity.parquet", "latency_check.parquet", "costs.json", "status.json"):
        (copy / name).unlink()
    data = load_run(copy)
    assert data.sensitivity is None
    assert data.latency_error() is None
    assert any("costs.json" in note and "status.json" in note for note in data.notes)
    assert set(data.tables) == {"size_bytes", "bops"}


def test_costs_computed_from_layers_equal_the_stored_table(copy, data):
    (copy / "costs.json").unlink()
    np.testing.assert_array_equal(load_run(copy).tables["size_bytes"], data.tables["size_bytes"])


def test_a_run_without_parquet_is_read_from_its_journals(copy, data):
    (copy / "trials.parquet").unlink()
    rebuilt = load_run(copy)
    assert not rebuilt.front.final
    assert rebuilt.costs == ("size_bytes",)  # latency is joined by the search, not here
    assert rebuilt.front.fronts["size_bytes"] == data.front.fronts["size_bytes"]
    assert rebuilt.front.pick("knee", "size_bytes") == data.front.pick("knee", "size_bytes")


def test_a_run_in_progress_says_so(tmp_path):
    data = load_run(write_run(tmp_path / "runs" / "x", Recipe(state="running", seeds=(0,))))
    assert "still in progress" in data.notes[0]
    assert data.front.fronts["size_bytes"]


def test_a_torn_journal_is_told_and_left_out(tmp_path):
    run = write_run(tmp_path / "x", Recipe(state="running", seeds=(0,)))
    journal = run / "trials" / "hawq-0-a.jsonl"
    journal.write_bytes(journal.read_bytes()[:-40])
    data = load_run(run)
    assert any("hawq-0-a.jsonl is torn" in note for note in data.notes)
    assert (data.table["strategy"] == "hawq").sum() == Recipe().per_trial - 1


@pytest.mark.parametrize("name", ["manifest.json", "layers.json", "front.json", "costs.json"])
def test_newer_schema_is_refused_with_the_fix(copy, name):
    content = json.loads((copy / name).read_text())
    (copy / name).write_text(json.dumps({**content, "schema_version": 99}))
    with pytest.raises(DataError, match="schema version 99") as caught:
        load_run(copy)
    assert "upgrade bitfront" in caught.value.fix


def test_newer_parquet_is_refused(copy):
    import pyarrow.parquet as pq

    arrow = pq.read_table(copy / "trials.parquet")
    meta = {**arrow.schema.metadata, b"bitfront.schema_version": b"7"}
    pq.write_table(arrow.replace_schema_metadata(meta), copy / "trials.parquet")
    with pytest.raises(DataError, match="schema version 7"):
        load_run(copy)


def test_damaged_files_are_named(copy):
    (copy / "front.json").write_text('{"schema_version": 1, ')
    with pytest.raises(DataError, match=r"front\.json is not whole JSON"):
        load_run(copy)
    (copy / "trials.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"trials\.parquet cannot be read"):
        load_run(copy)


def test_not_a_run_directory(tmp_path):
    with pytest.raises(DataError, match="not a run directory") as caught:
        load_run(tmp_path)
    assert "runs/demo" in caught.value.fix
    with pytest.raises(DataError, match="not a run directory"):
        load_run(tmp_path / "missing")


def test_an_empty_run_is_refused(copy):
    (copy / "trials.parquet").unlink()
    shutil.rmtree(copy / "trials")
    (copy / "trials").mkdir()
    with pytest.raises(DataError, match="no candidates yet"):
        load_run(copy)


def test_candidates_of_another_space_are_refused(copy):
    layers = json.loads((copy / "layers.json").read_text())
    layers["groups"].pop()
    layers["layers"].pop()
    (copy / "layers.json").write_text(json.dumps(layers))
    with pytest.raises(DataError, match="different spaces"):
        load_run(copy)


def test_shown_path_is_never_absolute(tmp_path):
    assert shown_path(tmp_path / "runs" / "a" / "multirun" / "0") == "runs/a/multirun/0"
    assert shown_path(tmp_path / "somewhere" / "a") == "a"


def test_reading_needs_no_search_library():
    code = (
        "import sys, reports.page, reports.cli; "
        "print([m for m in ('torch', 'ray', 'optuna', 'hydra') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
