"""A study stopped by a signal ends in order and goes on where it stopped."""

import os
import signal
import sys
from pathlib import Path

import pytest

from search.records import read_journals
from tests.e2e.conftest import read
from tests.support.processes import answer, started, wait_until


def study(tmp_path, runner, evaluations):
    words = [
        "task.width=2",
        "task.epochs=1",
        f"runner={runner}",
        "strategy=[random,nsga2]",
        f"budget.evaluations={evaluations}",
        "study=stopped",
    ]
    code = "import sys; from search.run import main; main()"
    return started(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
    )


def candidates(run_dir):
    """Lines in the journals of both strategies together."""
    journals = [path for path in run_dir.glob("trials/*.jsonl") if "baseline" not in path.name]
    return sum(path.read_bytes().count(b"\n") for path in journals)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runner", "sent", "code"),
    [
        ("local", signal.SIGINT, 130),
        pytest.param("local", signal.SIGTERM, 143, marks=pytest.mark.heavy),
        pytest.param("ray", signal.SIGTERM, 143, marks=pytest.mark.heavy),
    ],
)
def test_a_stopped_study_keeps_its_candidates_and_resumes(tmp_path, runner, sent, code):
    run_dir = tmp_path / "runs" / "stopped"
    with study(tmp_path, runner, 2000) as process:
        wait_until(lambda: candidates(run_dir) >= 5, process)
        process.send_signal(sent)
        _, err = answer(process)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert read(run_dir / "status.json")["state"] == "interrupted"
    assert (run_dir / "report.html").exists()
    before = read_journals(run_dir / "trials")
    assert len(before) >= 5
    goal = max(sum(line.strategy == name for line in before) for name in ("random", "nsga2")) + 3

    with study(tmp_path, runner, goal) as process:
        _, err = answer(process)
    assert process.returncode == 0, err
    after = read_journals(run_dir / "trials")
    kept = {(line.strategy, line.result.quality_key) for line in after}
    assert {(line.strategy, line.result.quality_key) for line in before} <= kept
    for name in ("random", "nsga2"):
        assert sum(line.strategy == name for line in after) == goal
    assert read(run_dir / "status.json")["state"] == "finished"
