"""What a second core brings, and what a study costs before and after its search.

Whole studies are run as a user runs them, on the demonstration task. Their speed is read from
the journals: candidates over the time from the first evaluation to the last, with one worker and
two interleaved. ``trials`` are two trials of random search, each in a worker; ``evaluators`` one
trial that spreads batches of eight over shared evaluators. ``bare`` is what the machine allows:
plain processes that evaluate policies of the same task and nothing else. ``fixed`` is the wall
time of a study of one candidate of a tiny network with everything cached: imports, Ray, planning,
report, exit, next to no evaluation. ``one_candidate`` is the same on the demonstration task, with
its evaluations of baselines and of the test split.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from quant.errors import DataError, UsageError
from search.benches.base import Figure, figure
from search.records import JournalLine, read_journals
from search.runner.cluster import cores

SUITE = "scaling"
ROUNDS, EVALUATIONS = 3, 48
FASTER, FIXED_S = 1.7, 20.0
CASES: Mapping[str, tuple[str, ...]] = {
    "trials": ("seeds=[0,1]", "runner.workers={size}"),
    "evaluators": ("seeds=[0]", "budget.batch=8", "runner.evaluators={size}"),
}
FIXED: Mapping[str, tuple[str, ...]] = {
    "fixed": ("task.width=2", "task.epochs=1"),
    "one_candidate": (),
}


def run(config: Mapping[str, Any]) -> Iterator[Figure]:
    """Yields the speed-up of both kinds of parallelism, and the fixed cost of a study.

    Raises:
        UsageError: this process may use one core only.
    """
    if cores() < 2:
        raise UsageError("one core", where="this process", expected="2 cores or more")
    with tempfile.TemporaryDirectory(prefix="bitfront-scaling-") as folder:
        home = Path(folder)
        study(home, "warm", "budget.evaluations=1")
        for name, words in CASES.items():
            speeds: dict[int, list[float]] = {1: [], 2: []}
            for number in range(ROUNDS):
                for size in speeds:
                    sized = [word.format(size=size) for word in words]
                    lines = study(
                        home, f"{name}-{size}-{number}",
                        f"budget.evaluations={EVALUATIONS}", *sized,
                    )[0]  # fmt: skip
                    speeds[size].append(speed(lines))
            yield from figures(name, speeds, FASTER)
        pairs = [(bare(1), bare(2)) for _ in range(ROUNDS)]
        one, two = zip(*pairs, strict=True)
        yield from figures("bare", {1: one, 2: two}, None)
        for case, words in FIXED.items():
            study(home, f"warm-{case}", "budget.evaluations=1", *words)
            runs = (
                study(home, f"{case}-{i}", "budget.evaluations=1", *words) for i in range(ROUNDS)
            )
            bar = FIXED_S if words else None
            yield figure(SUITE, case, "wall_s", [seconds for _, seconds in runs], "s", bar=bar)


def figures(
    name: str, speeds: Mapping[int, Sequence[float]], bar: float | None
) -> Iterator[Figure]:
    """Ratios of neighbouring runs, and the speeds behind them."""
    ratios = [two / one for one, two in zip(speeds[1], speeds[2], strict=True)]
    yield figure(SUITE, name, "two_over_one", ratios, "ratio", bar=bar, better="higher")
    for size, values in speeds.items():
        yield figure(SUITE, f"{name}@{size}", "candidates_per_s", values, "1/s", better="higher")


def bare(size: int) -> float:
    """Candidates per second of ``size`` plain processes that start evaluating together."""
    spawned = multiprocessing.get_context("spawn")
    together = spawned.Barrier(size)
    answers = spawned.SimpleQueue()
    processes = [
        spawned.Process(target=_bare, args=(seed, together, answers)) for seed in range(size)
    ]
    for process in processes:
        process.start()
    return float(sum(answers.get() for _ in processes))


def _bare(seed: int, together: Any, answers: Any) -> None:
    import numpy as np
    import torch

    from search.api import compose_plain
    from search.evaluate import Evaluator
    from search.plan import make_plan
    from search.settings import Settings

    torch.set_num_threads(1)
    plan = make_plan(Settings.from_dict(compose_plain(["strategy=random"])))
    evaluator = Evaluator(plan.task, plan.space, plan.settings.method)
    codes = plan.space.sample(np.random.default_rng(seed), EVALUATIONS)
    policies = [plan.space.policy(row) for row in codes]
    evaluator.evaluate(policies[:2])
    together.wait()
    begun = time.monotonic()
    evaluator.evaluate(policies)
    answers.put(EVALUATIONS / (time.monotonic() - begun))


def study(home: Path, name: str, *words: str) -> tuple[list[JournalLine], float]:
    """Runs a study in a process of its own; its candidates and wall seconds.

    Raises:
        DataError: it failed.
    """
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "search.run", "strategy=random", f"study={name}", *words]
    begun = time.monotonic()
    done = subprocess.run(
        command, cwd=home, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
    )  # fmt: skip
    seconds = time.monotonic() - begun
    if done.returncode:
        raise DataError(f"study {name} ended with {done.returncode}", fix=done.stderr[-500:])
    lines = read_journals(home / "runs" / name / "trials")
    return [line for line in lines if line.strategy != "baseline"], seconds


def speed(lines: Sequence[JournalLine]) -> float:
    """Candidates per second from the start of the first evaluation to the end of the last.

    The first batch counts with its evaluation time, and everything between evaluations counts.
    """
    first = min(lines, key=lambda line: line.unix_s)
    last = max(line.unix_s for line in lines)
    return len(lines) / (last - first.unix_s + first.result.eval_s)
