"""Greedy lowering along a score (as in Qualcomm's AMP, arXiv 2302.05397).

Starting from each group's least harmful choice, the cheapest harm is accepted next: the move
with the smallest added score per unit of saved cost. Every policy on the way is a point of the
path, and the path is evaluated from both ends inwards so that a small budget still spans it.
One path is walked per cost metric.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.records import Result
from search.solvers.greedy import greedy_path
from search.solvers.order import bisection_order
from search.strategies.base import Queue, SearchContext, Strategy
from spaces.policy import Policy


class GreedyStrategy(Strategy):
    """Walks one greedy path per cost metric.

    Args:
        score: kind of the score table to follow.
    """

    def __init__(self, score: str = "sqnr") -> None:
        self._score = score

    def needs(self) -> frozenset[str]:
        """See :class:`Strategy`."""
        return frozenset({self._score})

    def start(self, context: SearchContext) -> None:
        """See :class:`Strategy`."""
        super().start(context)
        self._queue = Queue(context.space)
        sizes = context.space.sizes
        width = int(sizes.max())
        score = context.scores[self._score].value[:, :width].copy()
        score[np.arange(width)[None, :] >= sizes[:, None]] = np.nan
        paths = [
            list(greedy_path(score, np.where(np.isnan(score), np.nan, table[:, :width])))
            for table in (context.costs.table(metric) for metric in context.cost_metrics)
        ]
        ordered = [[path[i] for i in bisection_order(len(path))] for path in paths]
        for step in range(max(len(path) for path in ordered)):
            for path in ordered:
                if step < len(path) and context.feasible(path[step])[0]:
                    self._queue.push(path[step])

    def ask(self, n: int) -> list[Policy]:
        """See :class:`Strategy`."""
        return self._queue.pop(n)

    def tell(self, results: Sequence[Result]) -> None:
        """The path is fixed by the score."""
