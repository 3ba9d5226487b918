"""ZeroQ's Pareto front: the best sum of data-free sensitivities for every budget.

Cai et al., arXiv 2001.00281, section 3.2 and figure 4: sensitivities of single layers are taken as
additive, and a dynamic program gives the front of (sensitivity, cost). The paper sweeps a limit
on the model's size; here the points of the front that are nearest to evenly spaced limits are
evaluated, widest apart first, the cost metrics taking turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np

from search.records import Result
from search.solvers.front_dp import solve_front
from search.solvers.order import bisection_order
from search.solvers.problem import from_tables
from search.strategies.base import Queue, SearchContext, Strategy
from search.strategies.tables import cost_of
from spaces.policy import Policy

SCORE = "zeroq"
LIMITS = 65


class ZeroQPareto(Strategy):
    """Evaluates evenly spaced points of the additive front of the score ``zeroq``."""

    def needs(self) -> frozenset[str]:
        """See :class:`Strategy`."""
        return frozenset({SCORE})

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

    def _front(self, metric: str) -> list[np.ndarray]:
        """Points of the front of (score, ``metric``) nearest to evenly spaced limits."""
        context = self.context
        tables = [cost_of(context, metric)]
        names = [group.name for group in context.space.groups]
        front = solve_front(
            from_tables(context.scores[SCORE].value, tables, context.space.sizes, names)
        )
        points = [front.policy(index) for index in range(len(front))]
        costs = context.costs.costs(np.array(points))[metric]
        limits = np.linspace(costs.min(), costs.max(), LIMITS)[list(bisection_order(LIMITS))]
        nearest = np.abs(costs[:, None] - limits).argmin(axis=0)
        return [points[index] for index in dict.fromkeys(nearest.tolist())]
