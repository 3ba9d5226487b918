"""What kills a study in practice: its driver, a worker, memory, the disk. Nothing is lost.

A node that is lost is in test_two_nodes.py; ``bitfront-bench faults`` repeats the kills at
random moments.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from search.benches.faults import Studies, candidates
from tests.e2e.conftest import read
from tests.e2e.test_two_nodes import may_unshare
from tests.support.processes import finished

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    made = Studies(tmp_path_factory.mktemp("studies"), ("budget.evaluations=30",))
    return made, *made.undisturbed("runner=local", warm=False)


@pytest.mark.parametrize(
    ("kind", "seed"), [pytest.param("driver", 4, marks=pytest.mark.heavy), ("worker", 1)]
)
def test_a_killed_process_loses_nothing_and_changes_nothing(studies, kind, seed):
    made, undisturbed, seconds = studies
    found = made.disturbed(kind, seed, np.random.default_rng(seed), undisturbed, seconds)
    assert (found.lost, found.repeated, found.different, found.corrupt) == (0, 0, 0, 0)
    assert found.kept == len(undisturbed)
    assert found.twice <= found.allowed


def pages(path):
    return -(-path.stat().st_size // 4096)


def room_for_half(run_dir):
    """Bytes for what a study writes before its trials, and for half of their lines."""
    later = {"front.json", "trials.parquet", "report.html"}
    before = [p for p in run_dir.iterdir() if p.is_file() and p.name not in later]
    journals = sum(pages(path) for path in (run_dir / "trials").glob("*.jsonl"))
    return 4096 * (sum(map(pages, before)) + 3 + journals // 2)


@pytest.mark.heavy
@pytest.mark.skipif(not may_unshare(), reason="this user may not make a mount namespace")
def test_a_full_disk_ends_in_one_message_and_goes_on_when_there_is_room(studies, tmp_path):
    made, undisturbed, _ = studies
    size = room_for_half(made.home / "undisturbed" / "run")
    command = (
        f"{sys.executable} -m search.run task.width=2 task.epochs=1 strategy=[random,greedy,nsga2]"
        " budget.evaluations=30 study=full run_dir=disk/run runner=local"
    )
    script = f"""
        mkdir disk && mount -t tmpfs -o size={size} none disk
        {command} > out1 2> err1; echo $? > code1
        cat disk/run/trials/*.jsonl > before
        mount -o remount,size=50m disk
        {command} > out2 2> err2; echo $? > code2
        cp -r disk/run kept
    """
    command = ["unshare", "--mount", "sh", "-c", script]
    done = finished(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    first, second = ((tmp_path / name).read_text() for name in ("err1", "err2"))
    assert (tmp_path / "code1").read_text().strip() == "4", first
    assert "the disk of the run directory is full: No space left on device" in first
    assert "goes on where it stopped" in first
    assert "Traceback" not in first
    assert 5 < (tmp_path / "before").read_bytes().count(b"\n") < 95, "it filled while searching"
    assert (tmp_path / "code2").read_text().strip() == "0", second
    kept = tmp_path / "kept"
    assert candidates(kept).equals(undisturbed)
    assert read(kept / "status.json")["state"] == "finished"
    assert not [path for path in kept.rglob(".*") if path.name != ".tune"]
