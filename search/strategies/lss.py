"""Front-first search with the logit-superposition surrogate.

1. The exact front of the additive score, all budgets at once.
2. Local search around it on the surrogate, which knows how layers interact.
3. True evaluations: the ends of the refined front and its middles, then always the policy with
   the largest expected hypervolume gain.
4. What the surrogate got wrong is learnt from every evaluation, and the neighbours of the true
   front join the candidates. The surrogate's own front always stays among them.

The surrogate's KL is the prediction and its cross-entropy a second opinion with a learnt weight:
a front optimised on the cross-entropy of a few hundred calibration samples finds their noise,
while the KL cannot fall below the float model.

The constants were chosen on the convolutional nets of :mod:`search.tabulated`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from search.records import Result
from search.solvers.order import bisection_order
from search.solvers.refine import Found, Landscape, neighbours, refine
from search.strategies.base import SearchContext, Strategy, Work
from search.strategies.candidates import opened
from spaces.policy import Policy

Codes = npt.NDArray[np.int64]

SEARCHED = 32
"""Points of each refined front whose neighbours become candidates from the start."""


class LssStrategy(Strategy):
    """Expected hypervolume gain over a surrogate of whole policies.

    Args:
        score: kind of a score table that carries a surrogate.
        first: policies of the refined front evaluated before anything is learnt.
        rounds: rounds of local search.
    """

    def __init__(self, score: str = "lss", first: int = 4, rounds: int = 3) -> None:
        self._score, self._first, self._rounds = score, first, rounds

    def needs(self) -> frozenset[str]:
        """See :class:`Strategy`."""
        return frozenset({self._score})

    def work(self) -> Work:
        """See :class:`Strategy`."""
        return Work(surrogate=self._candidates.lookups)

    def start(self, context: SearchContext) -> None:
        """See :class:`Strategy`.

        Raises:
            UsageError: the score predicts no whole policies.
            InfeasibleError: no policy satisfies the constraints.
        """
        super().start(context)
        self._candidates, begin = opened(context, self._score, "lss")
        fronts = [self._refined(axis, points) for axis, points in enumerate(begin)]
        self._candidates.worst = max(float(front.loss.max()) for front in fronts)
        self._opening = self._open(fronts)

    def ask(self, n: int) -> list[Policy]:
        """See :class:`Strategy`."""
        self._asked: list[int] = []
        if self._opening:
            self._asked, self._opening = self._opening[:n], self._opening[n:]
        else:
            self._asked = self._candidates.promising(n)
        codes = self._candidates.pool.codes
        return [self.context.space.policy(codes[row]) for row in self._asked]

    def tell(self, results: Sequence[Result]) -> None:
        """See :class:`Strategy`."""
        for row, result in zip(self._asked, results, strict=True):
            if self._candidates.tell(row, result):
                codes = self._candidates.pool.codes[row]
                self._candidates.add(neighbours(codes, self.context.space.sizes))

    def _refined(self, axis: int, points: Codes) -> Found:
        context = self.context
        metric = context.cost_metrics[axis]
        landscape = Landscape(
            context.space.sizes,
            lambda codes: self._candidates.predict(codes)[0],
            lambda codes: context.costs.costs(codes)[metric],
            context.feasible,
        )
        front = refine(points, landscape, rounds=self._rounds)
        self._candidates.add(points)
        self._candidates.add(front.codes)
        for index in bisection_order(len(front.codes))[:SEARCHED]:
            self._candidates.add(neighbours(front.codes[index], context.space.sizes))
        return front

    def _open(self, fronts: Sequence[Found]) -> list[int]:
        """Rows of the first policies, fronts in turn."""
        orders = [iter(bisection_order(len(front.codes))) for front in fronts]
        rows: dict[int, None] = {}
        for turn in range(self._first):
            index = next(orders[turn % len(fronts)], None)
            if index is not None:
                codes = fronts[turn % len(fronts)].codes[index]
                rows[self._candidates.pool.row[codes.tobytes()]] = None
        return list(rows)
