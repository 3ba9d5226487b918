"""What the platform adds to an evaluation: the study loop with journal against a bare loop.

The evaluation takes 5 ms. It computes, as an evaluator does, streaming a megabyte of weights; and,
as a second case, it sleeps, as one does that waits for another device: the core then idles and
what follows runs cold. Both loops see the same policies and run interleaved in this process.
Resuming reads a journal of 10,000 candidates and answers a strategy from it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from search.benches.base import Figure, figure
from search.journal import JournalWriter
from search.records import Result, read_journals
from search.strategies.base import SearchContext
from search.strategies.random import RandomStrategy
from search.trial import Budget, TrialName, run_trial, trial_rng
from spaces.choices import BASELINES, parse_choice
from spaces.layers import LayerSpec
from spaces.policy import Policy
from spaces.space import Group, SearchSpace

LAYERS, TAKEN_S, EVALUATIONS, ROUNDS = 50, 0.005, 100, 7
RESUMED = 10_000
WEIGHTS, INPUTS = np.ones((512, 512), np.float32), np.ones(512, np.float32)


def run(config: Mapping[str, Any]) -> Iterator[Figure]:
    """Yields the overhead share and the seconds to resume; the configuration is not read."""
    space = _space()
    with tempfile.TemporaryDirectory() as folder:
        for case, take in (("random@5ms", compute), ("random@5ms_asleep", time.sleep)):
            shares = [
                _overhead(space, Path(folder) / f"{case}-{i}.jsonl", i, _Taking(take, TAKEN_S))
                for i in range(ROUNDS)
            ]
            yield figure("throughput", case, "overhead", shares, "share", bar=0.05)
        yield figure(
            "throughput",
            f"resume@{RESUMED}",
            "resume_s",
            _resume_seconds(space, Path(folder) / "trials"),
            "s",
            bar=2.0,
        )


def compute(seconds: float) -> None:
    """Keeps the core and its caches busy for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        WEIGHTS @ INPUTS


class _Taking:
    """A judge whose evaluation takes a given time."""

    def __init__(self, take: Callable[[float], None], seconds: float) -> None:
        self._take, self._seconds = take, seconds

    def key(self, policy: Policy, split: str = "search") -> str:
        return policy.digest[:24]

    def evaluate(self, policies: Sequence[Policy], split: str = "search") -> list[Result]:
        results = []
        for policy in policies:
            self._take(self._seconds)
            results.append(Result(self.key(policy), policy.policy_id, 0.1, 0.1, 0.9, 100, 0.01))
        return results


class _Costs:
    """The study loop asks a random strategy for no costs; this satisfies the protocol."""

    metrics = ("size_bytes",)

    def table(self, metric: str) -> np.ndarray:
        return np.ones((LAYERS, 4))

    def costs(self, codes: np.ndarray) -> dict[str, np.ndarray]:
        return {"size_bytes": np.ones(len(codes))}

    def provenance(self) -> Mapping[str, Any]:
        return {"size_bytes": {"kind": "computed"}}


def _space() -> SearchSpace:
    choices = tuple(parse_choice(f"int{bits}src/int8ut") for bits in (2, 4, 8))
    layers = tuple(
        LayerSpec(f"layer{i}", "linear", i, (8, 8), (1, 8), (1, 8), (), (), (), 1, True, 72, 64)
        for i in range(LAYERS)
    )
    groups = tuple(Group(layer.name, (layer.name,), choices, BASELINES[:1]) for layer in layers)
    return SearchSpace("throughput", layers, groups)


def _overhead(space: SearchSpace, path: Path, seed: int, judge: _Taking) -> float:
    """Share by which the study loop is slower than the bare loop over equal evaluations."""
    codes = space.sample(np.random.default_rng(seed), EVALUATIONS)
    policies = [space.policy(row) for row in codes]
    begun = time.perf_counter()
    for policy in policies:
        judge.evaluate([policy])
    bare = time.perf_counter() - begun
    begun = time.perf_counter()
    _drive(space, path, judge, seed, EVALUATIONS)
    return (time.perf_counter() - begun) / bare - 1.0


def _drive(
    space: SearchSpace,
    path: Path,
    judge: _Taking,
    seed: int,
    evaluations: int,
    known: Mapping[str, Result] | None = None,
) -> None:
    context = SearchContext(
        space, _Costs(), {}, "ce", ("size_bytes",), (), trial_rng("random", seed), evaluations
    )
    name = TrialName("random", seed, path.stem)
    with JournalWriter(path) as journal:
        run_trial(
            name, RandomStrategy(), context, judge, journal, Budget(evaluations), known=known
        )


def _resume_seconds(space: SearchSpace, trials: Path) -> list[float]:
    _drive(space, trials / "random-0-a.jsonl", _Taking(time.sleep, 0.0), 0, RESUMED)
    seconds = []
    for round_ in range(3):
        begun = time.perf_counter()
        known = {line.result.quality_key: line.result for line in read_journals(trials)}
        _drive(space, trials / f"{round_}.jsonl", _Taking(time.sleep, TAKEN_S), 0, RESUMED, known)
        seconds.append(time.perf_counter() - begun)
    return seconds
