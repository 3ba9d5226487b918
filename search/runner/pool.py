"""Evaluators that trials share: actors that hold a calibrated model each.

A strategy that proposes one after another leaves cores idle while it thinks or waits; with
``runner.evaluators`` its batches are spread over actors. Results come back in the order of the
policies, so the candidates of a study do not depend on the number of evaluators.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from quant.method import Method
from search.evaluate import quality_key
from search.records import Result
from search.tasks.base import Task
from search.trial import Judge
from spaces.policy import Policy

BuildJudge = Callable[[Any, Mapping[str, np.ndarray]], Judge]


class Worker:
    """What an actor runs: one evaluator, built on first use.

    Args:
        build: makes the evaluator of a study from its shared data and arrays.
        shared: see :class:`search.runner.base.Shared`.
        arrays: weights and data by name, zero-copy from the object store.
    """

    def __init__(self, build: BuildJudge, shared: Any, arrays: Mapping[str, np.ndarray]) -> None:
        torch.set_num_threads(shared.threads)
        self._judge = build(shared, arrays)

    def evaluate(self, policies: Sequence[Policy], split: str) -> list[Result]:
        """Scores policies in order."""
        return self._judge.evaluate(policies, split)

    def process(self) -> int:
        """Process id."""
        return os.getpid()


class PooledJudge:
    """Spreads policies over the actors of a pool.

    Args:
        actors: handles of :class:`Worker` actors.
        task: for the identity of evaluations.
        method: the same.
    """

    def __init__(self, actors: Sequence[Any], task: Task, method: Method) -> None:
        self._actors, self._task, self._method = actors, task, method
        self._next = 0

    def key(self, policy: Policy, split: str = "search") -> str:
        """See :func:`search.evaluate.quality_key`."""
        return quality_key(self._task, self._method, split, 0, policy)

    def evaluate(self, policies: Sequence[Policy], split: str = "search") -> list[Result]:
        """Scores policies on all actors at once; results in the order of ``policies``."""
        import ray

        size = len(self._actors)
        first, self._next = self._next, (self._next + len(policies)) % size
        shares = [list(policies[start::size]) for start in range(size)]
        answers = [
            self._actors[(first + start) % size].evaluate.remote(share, split)
            for start, share in enumerate(shares)
            if share
        ]
        results: list[Result | None] = [None] * len(policies)
        for start, found in enumerate(ray.get(answers)):
            results[start::size] = found
        return [result for result in results if result is not None]


def start(size: int, cpus: float, build: BuildJudge, shared: Any, arrays: Any) -> list[Any]:
    """Starts ``size`` actors; a dead one is restarted and asked again.

    Args:
        size: number of evaluators (>= 1).
        cpus: what each holds.
        build: see :class:`Worker`.
        shared: study data (an object reference is resolved by Ray and must outlive the actors).
        arrays: the same for weights and data.
    """
    import ray

    actor = ray.remote(num_cpus=cpus, max_restarts=-1, max_task_retries=-1)(Worker)
    return [actor.remote(build, shared, arrays) for _ in range(size)]
