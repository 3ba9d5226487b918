"""HAWQ, three versions: curvature of the loss decides who gets the bits.

1. arXiv 1905.03696: layers are ordered by top eigenvalue over parameters; the paper sets the bits
   by hand so that they follow the order. Here all layers are lowered level by level, the flattest
   first, which passes through assignments that follow the order.
2. arXiv 1911.03852: bits never fall as the mean trace rises; of all such assignments the front of
   ``sum mean_trace * |Q(w) - w|^2`` against cost is taken.
3. arXiv 2011.10680: one integer program per budget on the same sum, without the order. Budgets
   are swept over the reachable range of every cost metric.

All are evaluated in bisection order, so any number of evaluations spreads over the whole front.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from quant.errors import InfeasibleError, UsageError, unknown
from search.records import Result
from search.solvers.ilp import SOLVERS, Limit, solve
from search.solvers.monotone import solve_monotone
from search.solvers.order import bisection_order
from search.strategies.base import Queue, SearchContext, Strategy
from search.strategies.tables import cost_of, cost_table, names, problem, within
from spaces.constraints import TOLERANCE, reachable
from spaces.policy import Policy

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
NARROWEST = 1 / 256
"""Intervals of budgets are not halved below this share of the reachable range."""
VERSIONS = (1, 2, 3)
SCORES = {1: "eigenvalue", 2: "hutchinson", 3: "hutchinson"}


class HawqStrategy(Strategy):
    """HAWQ v1, v2 or v3; see the module docstring.

    Args:
        version: 1, 2 or 3.
        score: kind of the score table; the version's own when None. Versions 1 and 2 need one
            that tells the curvature of groups.
        solver: ``"cbc"`` or ``"highs"``, for version 3.

    Raises:
        UsageError: another version or solver.
    """

    def __init__(self, version: int = 3, score: str | None = None, solver: str = "cbc") -> None:
        if version not in VERSIONS:
            raise UsageError(
                f"version is {version!r}", where="strategy.hawq.version", expected="1, 2 or 3"
            )
        if solver not in SOLVERS:
            raise unknown("solver", solver, SOLVERS, where="strategy.hawq.solver")
        self._version, self._solver = version, solver
        self._score = score or SCORES[version]

    def needs(self) -> frozenset[str]:
        """See :class:`Strategy`."""
        return frozenset({self._score})

    def start(self, context: SearchContext) -> None:
        """See :class:`Strategy`.

        Raises:
            UsageError: versions 1 and 2 with a score that tells no curvature.
        """
        super().start(context)
        self._queue = Queue(context.space)
        self._found = {1: self._lowered, 2: self._monotone, 3: self._programs}[self._version]()

    def ask(self, n: int) -> list[Policy]:
        """See :class:`Strategy`."""
        while len(self._queue.waiting) < n:
            codes = next(self._found, None)
            if codes is None:
                break
            if self.context.feasible(codes)[0]:
                self._queue.push(codes)
        return self._queue.pop(n)

    def tell(self, results: Sequence[Result]) -> None:
        """The assignments do not depend on evaluations."""

    def _curvature(self) -> Floats:
        found = self.context.scores[self._score].curvature
        if found is None:
            raise UsageError(
                f"the score '{self._score}' tells no curvature of layers",
                where="strategy.hawq.score",
                expected="a score by Hessian, for example hutchinson",
                fix="leave score out, or take version: 3, which works with any score",
            )
        return np.asarray(found, dtype=np.float64)

    def _fineness(self) -> Floats:
        """Bits of each choice, those of the activation breaking ties, NaN-padded."""
        bits = np.full(cost_table(self.context, self.context.cost_metrics[0]).shape, np.nan)
        for row, group in zip(bits, self.context.space.groups, strict=True):
            row[: len(group.choices)] = [
                choice.weight.bits + choice.activation.bits / 100 for choice in group.choices
            ]
        return bits

    def _lowered(self) -> Iterator[Codes]:
        """Version 1: from the finest policy down, level by level, the flattest group first."""
        flattest_first = np.argsort(self._curvature(), kind="stable")
        ladders = np.argsort(-np.nan_to_num(self._fineness(), nan=-np.inf), axis=1, kind="stable")
        codes = ladders[:, 0].copy()
        path = [codes.copy()]
        for level in range(1, ladders.shape[1]):
            for group in flattest_first:
                if level < self.context.space.sizes[group]:
                    codes[group] = ladders[group, level]
                    path.append(codes.copy())
        yield from (path[index] for index in bisection_order(len(path)))

    def _monotone(self) -> Iterator[Codes]:
        """Version 2: the front of the assignments that follow the order, per cost metric."""
        orders = []
        for metric in self.context.cost_metrics:
            additive = problem(self.context, self._score, metric)
            front = solve_monotone(additive, self._curvature(), self._fineness())
            orders.append([front.policy(index) for index in bisection_order(len(front))])
        for points in zip_longest(*orders):
            yield from (codes for codes in points if codes is not None)

    def _programs(self) -> Iterator[Codes]:
        """Version 3: one program per budget, metrics in turn."""
        sweeps = [self._sweep(metric) for metric in self.context.cost_metrics]
        for solutions in zip_longest(*sweeps):
            yield from (codes for codes in solutions if codes is not None)

    def _sweep(self, metric: str) -> Iterator[Codes | None]:
        """Solutions at both ends of the reachable range, then at middles of intervals.

        What solves both ends of an interval solves every budget between, so it is not halved.
        """
        solved: dict[float, Codes | None] = {}
        for share in (0.0, 1.0):
            solved[share] = self._solution(metric, share)
            yield solved[share]
        intervals = deque([(0.0, 1.0)])
        while intervals:
            low, high = intervals.popleft()
            if high - low < NARROWEST or _same(solved[low], solved[high]):
                continue
            middle = (low + high) / 2
            solved[middle] = self._solution(metric, middle)
            yield solved[middle]
            intervals += [(low, middle), (middle, high)]

    def _solution(self, metric: str, share: float) -> Codes | None:
        """The least score at ``share`` of the reachable range; None beyond the hard limits."""
        context = self.context
        low, high = reachable(context.costs.table(metric), context.space.sizes, metric)
        budget = Limit(cost_of(context, metric), (low + share * (high - low)) * (1 + TOLERANCE))
        score = problem(context, self._score).score
        try:
            return solve(score, [budget, *within(context)], self._solver, names(context)).codes
        except InfeasibleError:
            return None


def _same(first: Codes | None, second: Codes | None) -> bool:
    """Whether two budgets have one solution, or both none."""
    if first is None or second is None:
        return first is second
    return bool(np.array_equal(first, second))
