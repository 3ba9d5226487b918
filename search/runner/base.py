"""What every runner gets: the trials of a study and what they share.

A job is plain data that crosses process borders; the worker rebuilds model, evaluator and
strategy from it. Both runners call :func:`run_job`, so equal seeds give equal candidates.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hw_profiles.cost import CostModel
from quant.method import Method
from quant.sensitivity.base import ScoreTable
from search import files
from search.evaluate import Evaluator
from search.journal import JournalWriter
from search.plan import build_strategy
from search.records import Counters, read_journals
from search.runner.ledger import LedgerJudge
from search.runner.pool import PooledJudge
from search.strategies.base import SearchContext, Strategy, Trainable
from search.strategies.baselines import BaselineStrategy
from search.tasks.base import Task
from search.tasks.shipping import unpack
from search.trial import Budget, Judge, TrialName, run_trial, trial_rng
from spaces.baselines import uniform_policies
from spaces.constraints import Constraint
from spaces.space import SearchSpace

BASELINE = "baseline"


LEARNING = ".learning.json"
"""Ending of what a strategy that learns leaves beside its journal."""


@dataclass(frozen=True)
class Shared:
    """What all trials of a study have in common.

    Attributes:
        skeleton: task without tensors (see :mod:`search.tasks.shipping`).
        space, method, costs, constraints: of the plan.
        scores: score tables by kind.
        quality, cost_metrics: objectives.
        budget: per trial.
        threads: torch threads per trial.
        trials_dir: where journals go (absolute).
        plugins: allowed target prefixes.
        ledger: where every evaluation is recorded a second time (:mod:`search.runner.ledger`).
    """

    skeleton: Any
    space: SearchSpace
    method: Method
    costs: CostModel
    constraints: tuple[Constraint, ...]
    scores: Mapping[str, ScoreTable]
    quality: str
    cost_metrics: tuple[str, ...]
    budget: Budget
    threads: int
    trials_dir: Path
    plugins: tuple[str, ...]
    ledger: Path | None = None


@dataclass(frozen=True)
class Job:
    """One trial: a strategy's configuration and a seed."""

    strategy: str
    config: Mapping[str, Any]
    seed: int

    @property
    def is_baseline(self) -> bool:
        """True for the trial of uniform policies."""
        return self.strategy == BASELINE


class StopFlag:
    """Set once by a signal; polled between candidates."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.signal_number = 0

    def set(self, number: int) -> None:
        """Asks running trials to end."""
        self.signal_number = number
        self._event.set()

    def __call__(self) -> bool:
        """True once a stop was asked for."""
        return self._event.is_set()

    def install(self) -> dict[int, Any]:
        """Catches SIGINT and SIGTERM; returns the old handlers for :meth:`restore`."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {
            number: signal.signal(number, lambda got, _: self.set(got))
            for number in (signal.SIGINT, signal.SIGTERM)
        }

    @staticmethod
    def restore(old: Mapping[int, Any]) -> None:
        """Puts signal handlers back."""
        for number, handler in old.items():
            signal.signal(number, handler)


def run_job(
    job: Job,
    shared: Shared,
    arrays: Mapping[str, np.ndarray],
    stop: Any = lambda: False,
    actors: Sequence[Any] = (),
) -> int:
    """Runs one trial to the end of its budget in this process; returns its candidate count.

    Args:
        job: the trial.
        shared: see :class:`Shared`.
        arrays: weights and data by name.
        stop: polled between candidates.
        actors: shared evaluators; this process evaluates when there are none.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(shared.threads)
    try:
        return _run(job, shared, arrays, stop, actors)
    finally:
        torch.set_num_threads(threads)


def build_evaluator(shared: Shared, arrays: Mapping[str, np.ndarray]) -> Evaluator:
    """The evaluator of a study in this process; the model is calibrated on first use."""
    return Evaluator(unpack(shared.skeleton, dict(arrays)), shared.space, shared.method)


def _judge(job: Job, shared: Shared, evaluator: Evaluator, actors: Sequence[Any]) -> Judge:
    judge: Judge = PooledJudge(actors, evaluator.task, shared.method) if actors else evaluator
    if shared.ledger is None:
        return judge
    return LedgerJudge(judge, shared.ledger, f"{job.strategy}-{job.seed}")


def _run(
    job: Job, shared: Shared, arrays: Mapping[str, np.ndarray], stop: Any, actors: Sequence[Any]
) -> int:
    evaluator = build_evaluator(shared, arrays)
    task = evaluator.task
    strategy = _strategy(job, shared)
    scores = {kind: shared.scores[kind] for kind in strategy.needs()}
    budget, tags = shared.budget, {}
    if job.is_baseline:
        uniform = uniform_policies(shared.space)
        tags = {shared.space.policy(codes).policy_id: tag for tag, codes in uniform}
        budget = Budget(evaluations=len(uniform))
    context = SearchContext(
        space=shared.space,
        costs=shared.costs,
        scores=scores,
        quality=shared.quality,
        cost_metrics=shared.cost_metrics,
        constraints=shared.constraints,
        rng=trial_rng(job.strategy, job.seed),
        evaluations=budget.evaluations,
        trainable=partial(_trainable, evaluator),
    )
    known = {
        line.result.quality_key: line.result
        for line in read_journals(shared.trials_dir)
        if (line.strategy, line.seed) == (job.strategy, job.seed)
    }
    name = TrialName(job.strategy, job.seed, f"{time.time_ns():x}")
    with JournalWriter(shared.trials_dir / name.file) as journal:
        count = run_trial(
            name,
            strategy,
            context,
            _judge(job, shared, evaluator, actors),
            journal,
            budget,
            together=budget.batch if actors else 1,
            known=known,
            spent=Counters(forward=_score_work(scores, task)),
            spent_s=sum(s.seconds for s in scores.values()),
            tags=tags,
            stop=stop,
        )
    state = strategy.state_dict()
    if state:
        files.write_json(shared.trials_dir / f"{name.trial}{LEARNING}", state)
    return count


def _trainable(evaluator: Evaluator) -> Trainable:
    calibration = evaluator.task.calibration
    return Trainable(
        evaluator.quantized, calibration.inputs, calibration.labels, evaluator.task.search.n
    )


def _score_work(scores: Mapping[str, ScoreTable], task: Task) -> float:
    """Work of the scores in evaluation-equivalents.

    Scores count passes over the calibration split; an evaluation passes over search-validation.
    """
    passes = sum(table.forward_equivalents for table in scores.values())
    return passes * task.calibration.n / task.search.n


def _strategy(job: Job, shared: Shared) -> Strategy:
    if job.is_baseline:
        return BaselineStrategy()
    return build_strategy(job.strategy, job.config, shared.plugins)
