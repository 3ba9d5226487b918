"""A small finished run per session, and its copies for tests that write into it."""

import shutil

import pytest

from search.api import compose_plain
from search.plan import make_plan
from search.settings import Settings
from search.study import run_study

SMALL = ("task.width=2", "task.epochs=1", "runner=local", "strategy=random")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Run directory of a study of a few policies; do not write to it."""
    folder = tmp_path_factory.mktemp("exporting")
    raw = compose_plain([*SMALL, "study=small", "budget.evaluations=4"])
    raw["run_dir"] = str(folder / "runs" / "small")
    run_study(make_plan(Settings.from_dict(raw)), raw, "bitfront-search study=small")
    return folder / "runs" / "small"


@pytest.fixture
def run_dir(finished, tmp_path):
    """A copy of that run."""
    target = tmp_path / "runs" / "small"
    shutil.copytree(finished, target)
    return target
