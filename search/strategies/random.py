"""Uniform random policies without repetition: the baseline every search must beat."""

from __future__ import annotations

from collections.abc import Sequence

from search.records import Result
from search.strategies.base import Queue, SearchContext, Strategy
from spaces.policy import Policy

TRIES_PER_ASK = 200


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
            draws = self.context.space.sample(self.context.rng, n)
            for codes in draws[self.context.feasible(draws)]:
                self._queue.push(codes)
        return self._queue.pop(n)

    def tell(self, results: Sequence[Result]) -> None:
        """Random search learns nothing."""
