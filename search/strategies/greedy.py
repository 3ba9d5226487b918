"""Greedy lowering along a score (as in Qualcomm's AMP, arXiv 2302.05397).

Starting from each group's least harmful choice, the cheapest harm is accepted next: the move
with the smallest added score per unit of saved cost. Every policy on the way is a point of the
path, and the path is evaluated from both ends inwards so that a small budget still spans it.
One path is walked per cost metric.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from search.records import Result
from search.solvers.order import bisection_order
from search.strategies.base import Queue, SearchContext, Strategy
from spaces.policy import Policy

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


def greedy_path(score: Floats, cost: Floats) -> Iterator[Codes]:
    """Yields codes from the least-score policy down to the least-cost one.

    Args:
        score: ``float[groups, choices]``, lower is better, NaN-padded.
        cost: same shape, what every move must lower.
    """
    groups = np.arange(len(score))
    ties = np.nan_to_num(cost, nan=np.inf)
    # The least score; of equal scores the cheapest choice.
    codes = np.array(
        [np.lexsort((ties[g], np.nan_to_num(score[g], nan=np.inf)))[0] for g in groups]
    )
    yield codes.copy()
    while True:
        saved = cost[groups, codes][:, None] - cost
        added = score - score[groups, codes][:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            price = np.where(saved > 0, np.maximum(added, 0.0) / saved, np.inf)
        price[np.isnan(price)] = np.inf
        group, choice = np.unravel_index(int(np.argmin(price)), price.shape)
        if not np.isfinite(price[group, choice]):
            return
        codes[group] = choice
        yield codes.copy()


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
