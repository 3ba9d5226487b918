"""EvoPress: evolution by level switches that keep the budget (arXiv 2410.14649).

A (1 + lambda) evolution per budget: an offspring raises some groups by a level and lowers others
until the budget holds again; the best of parent and offspring survives. The paper searches one
budget at a time and ranks offspring on growing samples; here several budgets take turns, so that
a front comes out, and every offspring is evaluated on all of search-validation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from quant.errors import UsageError
from search.records import Result
from search.strategies.base import SearchContext, Strategy
from search.strategies.tables import cost_table
from spaces.constraints import TOLERANCE, reachable
from spaces.policy import Policy

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
TRIES = 100


@dataclass
class Line:
    """One budget's evolution.

    Attributes:
        metric: cost that is budgeted.
        budget: in the metric's unit.
        ladder: choices of each group by rising cost, ``int[groups, choices]``, padded by -1.
        parent: levels ``int[groups]``, positions in the ladder.
        loss: of the parent; infinite before the first generation.
        brood: offspring still to be asked for.
        born: offspring told so far, with their losses.
        size: offspring of this generation.
    """

    metric: str
    budget: float
    ladder: Codes
    parent: Codes
    loss: float = math.inf
    brood: list[Codes] = field(default_factory=list)
    born: list[tuple[float, Codes]] = field(default_factory=list)
    size: int = 0

    def codes(self, levels: Codes) -> Codes:
        """Choices at these levels, ``int[groups]``."""
        return self.ladder[np.arange(len(levels)), levels]


class EvopressStrategy(Strategy):
    """Level switches under several budgets in turn.

    Args:
        budgets: evolutions per cost metric, spread evenly over the reachable range, >= 1.
        offspring: lambda, >= 1.
        switches: at most this many groups raised per offspring, >= 1; as in the paper's code the
            number is the smaller of two uniform draws.

    Raises:
        UsageError: a number below 1.
    """

    def __init__(self, budgets: int = 5, offspring: int = 3, switches: int = 3) -> None:
        if min(budgets, offspring, switches) < 1:
            raise UsageError(
                f"budgets {budgets}, offspring {offspring}, switches {switches}",
                where="strategy.evopress",
                expected="at least 1 each",
            )
        self._budgets, self._offspring, self._switches = budgets, offspring, switches

    def start(self, context: SearchContext) -> None:
        """See :class:`Strategy`."""
        super().start(context)
        self._known: set[bytes] = set()
        self._turn = 0
        shares = (np.arange(self._budgets) + 0.5) / self._budgets
        self._lines = [
            line
            for share in shares
            for metric in context.cost_metrics
            if (line := self._line(metric, float(share))) is not None
        ]

    def ask(self, n: int) -> list[Policy]:
        """See :class:`Strategy`."""
        self._asked: list[Codes] = []
        for _ in self._lines:
            line = self._lines[self._turn % len(self._lines)]
            if not line.brood:
                self._breed(line)
            if line.brood:
                self._asked, line.brood = line.brood[:n], line.brood[n:]
                break
            self._turn += 1
        return [self.context.space.policy(line.codes(levels)) for levels in self._asked]

    def tell(self, results: Sequence[Result]) -> None:
        """See :class:`Strategy`."""
        if not self._asked:
            return
        line = self._lines[self._turn % len(self._lines)]
        losses = [self.context.loss(result) for result in results]
        line.born += [
            (math.inf if math.isnan(loss) else loss, levels)
            for loss, levels in zip(losses, self._asked, strict=True)
        ]
        if len(line.born) == line.size:
            loss, levels = min(line.born, key=lambda pair: pair[0])
            if loss < line.loss:
                line.loss, line.parent = loss, levels
            line.born = []
            self._turn += 1

    def _line(self, metric: str, share: float) -> Line | None:
        """An evolution at ``share`` of the reachable range; None where nothing is feasible."""
        table = cost_table(self.context, metric)
        low, high = reachable(table, self.context.space.sizes, metric)
        order = np.argsort(np.nan_to_num(table, nan=np.inf), axis=1, kind="stable")
        line = Line(metric, low + share * (high - low), order, np.zeros(len(table), np.int64))
        self._fill(line, line.parent)
        return line if self._within(line, line.parent) else None

    def _fill(self, line: Line, levels: Codes) -> None:
        """Raises random groups while the budget holds."""
        groups = list(self.context.rng.permutation(len(levels)))
        while groups:
            group = groups.pop(0)
            raised = levels.copy()
            raised[group] += 1
            if raised[group] < self.context.space.sizes[group] and self._within(line, raised):
                levels[group] += 1
                groups.append(group)

    def _within(self, line: Line, levels: Codes) -> bool:
        codes = line.codes(levels)[None, :]
        cost = self.context.costs.costs(codes)[line.metric][0]
        inside = cost <= line.budget * (1 + TOLERANCE)
        return bool(inside and self.context.feasible(codes)[0])

    def _breed(self, line: Line) -> None:
        """Fills the brood with new offspring; the first generation is the parent itself."""
        wanted = [line.parent.copy()] if math.isinf(line.loss) else []
        wanted = [levels for levels in wanted if self._is_new(line, levels)]
        for _ in range(TRIES):
            if len(wanted) >= self._offspring:
                break
            levels = self._switched(line)
            if self._within(line, levels) and self._is_new(line, levels):
                wanted.append(levels)
        line.brood, line.size = wanted, len(wanted)

    def _is_new(self, line: Line, levels: Codes) -> bool:
        key = line.codes(levels).tobytes()
        if key in self._known:
            return False
        self._known.add(key)
        return True

    def _switched(self, line: Line) -> Codes:
        """Raises a few groups by a level, then lowers others until the budget holds."""
        rng, sizes = self.context.rng, self.context.space.sizes
        levels = line.parent.copy()
        count = int(rng.integers(1, self._switches + 1, size=2).min())
        able = np.flatnonzero(levels < sizes - 1)
        raised = rng.permutation(able)[:count]
        levels[raised] += 1
        for group in rng.permutation(np.setdiff1d(np.flatnonzero(levels > 0), raised)):
            if self._within(line, levels):
                break
            levels[group] -= 1
        return levels
