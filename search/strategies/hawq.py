"""HAWQ-V3: Hessian traces x squared weight error, an integer program per budget.

Dong et al., arXiv 1911.03852 (score), Yao et al., arXiv 2011.10680 (program). The score of a
choice is the mean trace of the layer's Hessian times the squared weight error; budgets are
swept over the reachable range of every cost metric in bisection order, so any number of
evaluations spreads over the whole front.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from search.records import Result
from search.solvers.ilp import Limit, solve
from search.solvers.order import bisection_order
from search.strategies.base import Queue, SearchContext, Strategy
from spaces.policy import Policy

Floats = npt.NDArray[np.float64]
MAX_BUDGETS = 257


class HawqStrategy(Strategy):
    """One integer program per budget on a grid over each cost's reachable range.

    Args:
        score: kind of the score table; ``"hutchinson"`` is the paper's.
        solver: ``"cbc"`` or ``"highs"``.
    """

    def __init__(self, score: str = "hutchinson", solver: str = "cbc") -> None:
        self._score, self._solver = score, solver

    def needs(self) -> frozenset[str]:
        """See :class:`Strategy`."""
        return frozenset({self._score})

    def start(self, context: SearchContext) -> None:
        """See :class:`Strategy`."""
        super().start(context)
        self._queue = Queue(context.space)
        sizes = context.space.sizes
        self._width = int(sizes.max())
        score = context.scores[self._score].value[:, : self._width].copy()
        score[np.arange(self._width)[None, :] >= sizes[:, None]] = np.nan
        self._table = score
        self._programs = self._sweep()

    def ask(self, n: int) -> list[Policy]:
        """See :class:`Strategy`."""
        while len(self._queue.waiting) < n:
            codes = next(self._programs, None)
            if codes is None:
                break
            self._queue.push(codes)
        return self._queue.pop(n)

    def tell(self, results: Sequence[Result]) -> None:
        """The programs do not depend on evaluations."""

    def _sweep(self) -> Iterator[npt.NDArray[np.int64]]:
        """Solutions for every cost metric in turn, budgets in bisection order."""
        tables = [
            self.context.costs.table(metric)[:, : self._width]
            for metric in self.context.cost_metrics
        ]
        for step in bisection_order(MAX_BUDGETS):
            share = step / (MAX_BUDGETS - 1)
            for table in tables:
                limits = [Limit(table, _budget(table, self._table, share)), *self._hard_limits()]
                codes = solve(self._table, limits, self._solver).codes
                if self.context.feasible(codes)[0]:
                    yield codes

    def _hard_limits(self) -> list[Limit]:
        costs = self.context.costs
        return [
            Limit(costs.table(item.metric)[:, : self._width], item.limit)
            for item in self.context.constraints
        ]


def _budget(table: Floats, score: Floats, share: float) -> float:
    """The cost at ``share`` (0..1) of the reachable range."""
    offered = ~np.isnan(score)
    low = np.where(offered, table, np.inf).min(axis=1).sum()
    high = np.where(offered, table, -np.inf).max(axis=1).sum()
    budget = float(low + share * (high - low))
    return budget + 1e-12 * abs(budget)
