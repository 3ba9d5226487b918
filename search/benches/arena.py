"""Where strategies are compared: a space whose evaluations are looked up or remembered."""

from __future__ import annotations

import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from hw_profiles.cost import CostModel
from quant.method import Method
from quant.sensitivity.base import ScoreContext, ScoreTable
from search.evaluate import Evaluator
from search.fronts import reference_for
from search.journal import JournalWriter
from search.pareto import hypervolume
from search.plan import load_task
from search.records import JournalLine, Result
from search.settings import Settings
from search.strategies.base import SearchContext, Strategy, Trainable
from search.tabulated.build import cost_table, tables
from search.tabulated.nets import tabulated_task
from search.tabulated.scores import has_score, score
from search.tabulated.table import Table, TableCosts, reference_point
from search.targets import build
from search.trial import Budget, Judge, TrialName, run_trial, trial_rng
from spaces.build import build_space
from spaces.inventory import trace
from spaces.policy import Policy
from spaces.space import SearchSpace

Floats = npt.NDArray[np.float64]
CALIBRATION_STREAM = 99
"""Keeps the draws of calibration samples apart from the strategies' own."""


class Arena(ABC):
    """A space, its costs, its scores and its judge.

    Attributes:
        name: of the space.
        space: what may be chosen.
        costs: one cost metric.
        reference: ``(ce, cost)`` of the reference point.
        judge: evaluates policies.
    """

    name: str
    space: SearchSpace
    costs: CostModel
    reference: Floats
    judge: Judge

    @property
    def trainable(self) -> Callable[[], Trainable] | None:
        """Gives the model of the space, None where there is only a table."""
        return None

    @abstractmethod
    def has(self, kind: str) -> bool:
        """Whether a score can be had here."""

    @abstractmethod
    def scores(self, kinds: Sequence[str], seed: int) -> Mapping[str, ScoreTable]:
        """Scores as a study with this seed's calibration data would find them."""

    @abstractmethod
    def work(self, kinds: Sequence[str]) -> float:
        """Evaluation-equivalents spent on scores."""

    def volume(self, points: Floats) -> float:
        """Hypervolume of ``(ce, cost)`` points."""
        return hypervolume(points, self.reference)

    @property
    @abstractmethod
    def optimum(self) -> float:
        """Hypervolume of the true front; NaN where it is not known."""


@dataclass(frozen=True)
class Run:
    """One strategy with one seed.

    Attributes:
        space, strategy, seed: its identity.
        points: ``(ce, cost)`` in the order of evaluation, ``float[n, 2]``.
        arena: where it ran.
        work: evaluation-equivalents spent before the first evaluation.
        seconds: the strategy's own time, evaluations not counted.
        own_work: evaluation-equivalents of its own before each evaluation, ``float[n]``.
    """

    space: str
    strategy: str
    seed: int
    points: Floats
    arena: Arena
    work: float
    seconds: float
    own_work: Floats

    def share(self, evaluations: int) -> float:
        """Share 0..1 of the optimal hypervolume after so many true evaluations."""
        return self.arena.volume(self.points[:evaluations]) / self.arena.optimum

    def share_at(self, equivalents: float) -> float:
        """The same after so many evaluation-equivalents, scores and training counted."""
        spent = self.work + self.own_work + np.arange(1, len(self.own_work) + 1)
        return self.share(int((spent <= equivalents).sum()))


def replay(name: str, strategy: Strategy, arena: Arena, seed: int, evaluations: int) -> Run:
    """Runs a strategy through the study loop."""
    kinds = sorted(strategy.needs())
    context = SearchContext(
        space=arena.space,
        costs=arena.costs,
        scores=arena.scores(kinds, seed),
        quality="ce",
        cost_metrics=arena.costs.metrics,
        constraints=(),
        rng=trial_rng(name, seed),
        evaluations=evaluations,
        trainable=arena.trainable,
    )
    lines: list[JournalLine] = []
    begun = time.thread_time()
    with (
        tempfile.TemporaryDirectory() as folder,
        JournalWriter(Path(folder) / "journal.jsonl") as journal,
    ):
        run_trial(
            TrialName(name, seed, "bench"), strategy, context, arena.judge, journal,
            Budget(evaluations), on_line=lines.append,
        )  # fmt: skip
    seconds = time.thread_time() - begun - sum(line.result.eval_s for line in lines)
    codes = np.array([line.codes for line in lines]).reshape(len(lines), -1)
    cost = arena.costs.costs(codes)[arena.costs.metrics[0]] if len(lines) else np.empty(0)
    points = np.stack([np.array([line.result.ce for line in lines]), cost], axis=1)
    own = np.array([line.counters.forward for line in lines])
    return Run(arena.name, name, seed, points, arena, arena.work(kinds), seconds, own)


class TableArena(Arena):
    """A tabulated space."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.name, self.space, self.costs = table.name, table.space, table.costs
        self.reference, self.judge = table.reference, table

    @property
    def optimum(self) -> float:
        """See :class:`Arena`."""
        return self._table.optimum

    @property
    def trainable(self) -> Callable[[], Trainable] | None:
        """The net the table was made of, where it is one of the shipped ones."""
        known = tables().get(self.name)
        return None if known is None else partial(_tabulated_model, known[0], self.space)

    def has(self, kind: str) -> bool:
        """See :class:`Arena`."""
        return has_score(self._table, kind)

    def scores(self, kinds: Sequence[str], seed: int) -> Mapping[str, ScoreTable]:
        """As stored for seed 0, from samples drawn again for all others."""
        rng = np.random.default_rng([seed, CALIBRATION_STREAM]) if seed else None
        return {kind: score(self._table, kind, rng) for kind in kinds}

    def work(self, kinds: Sequence[str]) -> float:
        """See :class:`Arena`."""
        return sum(score(self._table, kind, None).forward_equivalents for kind in kinds)


def _tabulated_model(net: str, space: SearchSpace) -> Trainable:
    task = tabulated_task(net)
    evaluator = Evaluator(task, space, Method())
    calibration = task.calibration
    return Trainable(evaluator.quantized, calibration.inputs, calibration.labels, task.search.n)


class Remembering:
    """A judge that evaluates every policy once, whoever asks."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._known: dict[str, Result] = {}

    def key(self, policy: Policy, split: str = "search") -> str:
        """See :class:`search.trial.Judge`."""
        return self._evaluator.key(policy, split)

    def evaluate(self, policies: Sequence[Policy], split: str = "search") -> list[Result]:
        """See :class:`search.trial.Judge`."""
        for policy in policies:
            key = self.key(policy, split)
            if key not in self._known:
                self._known[key] = self._evaluator.evaluate([policy], split)[0]
        return [self._known[self.key(policy, split)] for policy in policies]


class TaskArena(Arena):
    """A task with a space too large to tabulate; scores are computed when first asked for.

    Attributes:
        references: reference points by the name of the figure: the strict one of the tabulated
            spaces, and the loss of guessing, as runs are reported.

    The cost is the size where only weights are chosen, and bit operations where activations are
    too: a size does not see those.
    """

    def __init__(self, evaluator: Evaluator, name: str, config: Mapping[str, Any]) -> None:
        space = evaluator.space
        self.name, self.space, self.judge = name, space, Remembering(evaluator)
        self._evaluator, self._config = evaluator, config
        choices = [choice for group in space.groups for choice in group.choices]
        inputs = {choice.activation.bits for choice in choices}
        metric = "size_bytes" if len(inputs) == 1 else "bops"
        self.costs = TableCosts(metric, cost_table(space, metric))
        labels = evaluator.task.search.labels
        float_ce = float(F.nll_loss(evaluator.float_logprobs("search").double(), labels))
        self.reference = reference_point(space, self.costs, metric, float_ce)
        guess = reference_for(space, self.costs, metric, "ce", float_ce, evaluator.task.classes)
        self.references = {"union_share": self.reference, "union_share_guess": guess.point}
        self._tables: dict[str, ScoreTable] = {}

    @property
    def trainable(self) -> Callable[[], Trainable] | None:
        """The task's model."""
        task, quantized = self._evaluator.task, self._evaluator.quantized
        calibration = task.calibration
        return lambda: Trainable(quantized, calibration.inputs, calibration.labels, task.search.n)

    @staticmethod
    def of(config: Mapping[str, Any]) -> TaskArena:
        """The configured task and space; no latency is measured."""
        settings = Settings.from_dict({k: v for k, v in config.items() if k != "bench"})
        task = load_task(settings)
        space = build_space(
            settings.space, trace(task.on_device.model, task.on_device.example_input)
        )
        return TaskArena(Evaluator(task, space, settings.method), settings.study, config)

    @property
    def optimum(self) -> float:
        """See :class:`Arena`."""
        return float("nan")

    def has(self, kind: str) -> bool:
        """See :class:`Arena`."""
        return kind in self._config["score"]

    def scores(self, kinds: Sequence[str], seed: int) -> Mapping[str, ScoreTable]:
        """The scores of the calibration split, the same for every seed."""
        return {kind: self._score(kind) for kind in kinds}

    def work(self, kinds: Sequence[str]) -> float:
        """See :class:`Arena`."""
        task = self._evaluator.task
        passes = sum(self._score(kind).forward_equivalents for kind in kinds)
        return passes * task.calibration.n / task.search.n

    def _score(self, kind: str) -> ScoreTable:
        if kind not in self._tables:
            made = build(self._config["score"][kind], where=f"score.{kind}")
            self._tables[kind] = made.compute(self._context())
        return self._tables[kind]

    def _context(self) -> ScoreContext:
        task = self._evaluator.task
        return ScoreContext(
            self._evaluator.quantized,
            tuple(group.layers for group in self.space.groups),
            tuple(group.all_choices for group in self.space.groups),
            task.calibration.inputs,
            task.calibration.labels,
            batch_size=25,
            generator=torch.Generator().manual_seed(0),
        )
