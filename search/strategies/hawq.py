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
from search.strategies.tables import cost_table, problem
from spaces.policy import Policy

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
MAX_BUDGETS = 257
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
        """Version 3: one program per budget, budgets in bisection order, metrics in turn."""
        context = self.context
        limits = [Limit(cost_table(context, c.metric), c.limit) for c in context.constraints]
        score = problem(context, self._score).score
        for step in bisection_order(MAX_BUDGETS):
            for metric in context.cost_metrics:
                table = cost_table(context, metric)
                budget = Limit(table, _budget(table, step / (MAX_BUDGETS - 1)))
                try:
                    yield solve(score, [budget, *limits], self._solver).codes
                except InfeasibleError:
                    continue  # within the hard limits this budget is out of reach


def _budget(table: Floats, share: float) -> float:
    """The cost at ``share`` (0..1) of the reachable range."""
    low, high = np.nanmin(table, axis=1).sum(), np.nanmax(table, axis=1).sum()
    return float(low + share * (high - low)) * (1 + 1e-12)
