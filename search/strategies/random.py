"""Uniform random policies without repetition: the baseline every search must beat."""

from __future__ import annotations

from collections.abc import Sequence

from search.records import Result
from search.strategies.base import Queue, SearchContext, Strategy
from spaces.policy import Policy

DRAWN_AT_ONCE = 64
"""Draws are the same however many are made at a time; many cost little more than one."""
TRIES_PER_ASK = 50


class RandomStrategy(Strategy):
    """Draws every group's choice independently and uniformly; infeasible draws are dropped."""

    def start(self, context: SearchContext) -> None:
        """See :class:`Strategy`."""
        super().start(context)
        self._queue = Queue(context.space)

    def ask(self, n: int) -> list[Policy]:
        """See :class:`Strategy`."""
        for _ in range(TRIES_PER_ASK):
            if len(self._queue.waiting) >= n:
                break
            draws = self.context.space.sample(self.context.rng, max(n, DRAWN_AT_ONCE))
            for codes in draws[self.context.feasible(draws)]:
                self._queue.push(codes)
        return self._queue.pop(n)

    def tell(self, results: Sequence[Result]) -> None:
        """Random search learns nothing."""
