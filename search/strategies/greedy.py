"""Greedy lowering along a score (as in Qualcomm's AMP, arXiv 2302.05397).

Starting from each group's least harmful choice, one move after the other is accepted, the one
with the least added score (AMP), or the least per unit of saved cost. Every policy on the way is
a point of the path, and the path is evaluated from both ends inwards so that a small budget
still spans it. One path is walked per cost metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from quant.errors import unknown
from search.records import Result
from search.solvers.greedy import greedy_path
from search.solvers.order import bisection_order
from search.strategies.base import Queue, SearchContext, Strategy
from search.strategies.tables import problem
from spaces.policy import Policy

RULES = ("per_cost", "amp")


class GreedyStrategy(Strategy):
    """Walks one greedy path per cost metric.

    Args:
        score: kind of the score table to follow.
        rule: ``"per_cost"`` weighs the added score against the saved cost; ``"amp"`` takes the
            least added score, as the paper does.

    Raises:
        UsageError: another rule.
    """

    def __init__(self, score: str = "sqnr", rule: str = "per_cost") -> None:
        if rule not in RULES:
            raise unknown("rule", rule, RULES, where="strategy.greedy.rule")
        self._score, self._rule = score, rule

    def needs(self) -> frozenset[str]:
        """See :class:`Strategy`."""
        return frozenset({self._score})

    def start(self, context: SearchContext) -> None:
        """See :class:`Strategy`."""
        super().start(context)
        self._queue = Queue(context.space)
        for points in zip_longest(*(self._path(metric) for metric in context.cost_metrics)):
            for codes in points:
                if codes is not None and context.feasible(codes)[0]:
                    self._queue.push(codes)

    def ask(self, n: int) -> list[Policy]:
        """See :class:`Strategy`."""
        return self._queue.pop(n)

    def tell(self, results: Sequence[Result]) -> None:
        """The path is fixed by the score."""

    def _path(self, metric: str) -> list[npt.NDArray[np.int64]]:
        found = problem(self.context, self._score, metric)
        cost = found.padded(0, np.nan)
        path = list(greedy_path(found.score, cost, per_cost=self._rule == "per_cost"))
        return [path[index] for index in bisection_order(len(path))]
