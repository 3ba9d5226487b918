"""Uniform policies, always evaluated first: what any search is compared with."""

from __future__ import annotations

from collections.abc import Sequence

from search.records import Result
from search.strategies.base import Queue, SearchContext, Strategy
from spaces.baselines import uniform_policies
from spaces.policy import Policy


class BaselineStrategy(Strategy):
    """Float, full int8 and every uniform policy of the space; constraints do not apply."""

    def start(self, context: SearchContext) -> None:
        """See :class:`Strategy`."""
        super().start(context)
        self._queue = Queue(context.space)
        for _, codes in uniform_policies(context.space):
            self._queue.push(codes)

    def ask(self, n: int) -> list[Policy]:
        """See :class:`Strategy`."""
        return self._queue.pop(n)

    def tell(self, results: Sequence[Result]) -> None:
        """Baselines do not adapt."""
