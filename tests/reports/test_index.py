import shutil

import pytest

from quant.errors import DataError
from reports.index import find_runs, write_index
from tests.support.synthetic_run import HOSTILE, Recipe, write_run


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("i") / "runs"
    small = {"seeds": (0,), "per_trial": 6, "layers": 4, "measured": 0}
    write_run(root / "one", Recipe(study="one", **small))
    write_run(root / "sweep" / "multirun" / "0", Recipe(study=HOSTILE, **small))
    write_run(root / "sweep" / "multirun" / "1", Recipe(state="running", **small))
    (root / "empty").mkdir()
    return root


def test_runs_are_found_at_any_depth(tree):
    names = [path.relative_to(tree).as_posix() for path in find_runs(tree)]
    assert names == ["one", "sweep/multirun/0", "sweep/multirun/1"]
    assert find_runs(tree / "one") == [tree / "one"]


def test_index_links_every_report_and_renders_what_is_missing(tree):
    text = write_index(tree).read_text()
    for name in ("one", "sweep/multirun/0", "sweep/multirun/1"):
        assert f'href="{name}/report.html"' in text
        assert (tree / name / "report.html").exists()
    assert "running" in text
    assert "<img" not in text


def test_unreadable_runs_are_told_not_hidden(tree, tmp_path):
    root = tmp_path / "runs"
    shutil.copytree(tree / "one", root / "one")
    (root / "one" / "layers.json").unlink()
    assert "layers.json is missing" in write_index(root).read_text()


def test_reports_up_to_date_are_left_alone(tree):
    write_index(tree)
    before = (tree / "one" / "report.html").stat().st_mtime_ns
    write_index(tree)
    assert (tree / "one" / "report.html").stat().st_mtime_ns == before


def test_a_directory_without_runs(tmp_path):
    with pytest.raises(DataError, match="there is no run"):
        write_index(tmp_path)
