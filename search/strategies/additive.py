"""The whole exact front of an additive score, evaluated in bisection order.

A score that adds up over groups makes the search a multiple-choice knapsack problem, and all of
its nondominated policies come out of one dominance-pruned merge (Nemhauser and Ullmann, 1969)
for less than one integer program. The points of every cost metric's front are evaluated ends
first, then middles, so that any budget spreads over the whole range.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from search.records import Result
from search.solvers.front_dp import solve_front
from search.solvers.order import bisection_order
from search.strategies.base import Queue, SearchContext, Strategy
from search.strategies.tables import problem
from spaces.policy import Policy

Codes = npt.NDArray[np.int64]


class AdditiveStrategy(Strategy):
    """Evaluates exact additive fronts, one per cost metric, in turn.

    Args:
        score: kind of the score table; it should not be negative, or the solver exploits its
            noise.
    """

    def __init__(self, score: str = "kl") -> None:
        self._score = score

    def needs(self) -> frozenset[str]:
        """See :class:`Strategy`."""
        return frozenset({self._score})

    def start(self, context: SearchContext) -> None:
        """See :class:`Strategy`."""
        super().start(context)
        self._queue = Queue(context.space)
        fronts = [self._front(metric) for metric in context.cost_metrics]
        for points in zip_longest(*fronts):
            for codes in points:
                if codes is not None and context.feasible(codes)[0]:
                    self._queue.push(codes)

    def ask(self, n: int) -> list[Policy]:
        """See :class:`Strategy`."""
        return self._queue.pop(n)

    def tell(self, results: Sequence[Result]) -> None:
        """The front is fixed by the score."""

    def _front(self, metric: str) -> list[Codes]:
        """Nondominated policies of (score, ``metric``) in the order of evaluation."""
        front = solve_front(problem(self.context, self._score, metric))
        return [front.policy(index) for index in bisection_order(len(front))]
