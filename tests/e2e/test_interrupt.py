"""A study stopped by a signal ends in order and goes on where it stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from search.records import read_journals
from tests.e2e.conftest import read


def start(tmp_path, runner, evaluations):
    words = [
        "task.width=2",
        "task.epochs=1",
        f"runner={runner}",
        "strategy=[random,nsga2]",
        f"budget.evaluations={evaluations}",
        "study=stopped",
    ]
    code = "import sys; from search.run import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for_candidates(run_dir, count, process):
    """Returns once the journals hold ``count`` lines of both strategies together."""
    for _ in range(1200):
        lines = sum(
            path.read_bytes().count(b"\n")
            for path in run_dir.glob("trials/*.jsonl")
            if not path.name.startswith("baseline")
        )
        if lines >= count:
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    raise AssertionError("no candidates appeared")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runner", "sent", "code"),
    [("local", signal.SIGINT, 130), ("local", signal.SIGTERM, 143), ("ray", signal.SIGTERM, 143)],
)
def test_a_stopped_study_keeps_its_candidates_and_resumes(tmp_path, runner, sent, code):
    run_dir = tmp_path / "runs" / "stopped"
    process = start(tmp_path, runner, 2000)
    wait_for_candidates(run_dir, 5, process)
    process.send_signal(sent)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert read(run_dir / "status.json")["state"] == "interrupted"
    assert (run_dir / "report.html").exists()
    before = read_journals(run_dir / "trials")
    assert len(before) >= 5
    goal = max(sum(line.strategy == name for line in before) for name in ("random", "nsga2")) + 3

    process = start(tmp_path, runner, goal)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    after = read_journals(run_dir / "trials")
    kept = {(line.strategy, line.result.quality_key) for line in after}
    assert {(line.strategy, line.result.quality_key) for line in before} <= kept
    for name in ("random", "nsga2"):
        assert sum(line.strategy == name for line in after) == goal
    assert read(run_dir / "status.json")["state"] == "finished"
