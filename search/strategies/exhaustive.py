"""Every policy of a small space: what regret is measured against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quant.errors import UsageError
from search.records import Result
from search.solvers.order import bisection_order
from search.strategies.base import Queue, SearchContext, Strategy
from spaces.policy import Policy
from spaces.space import SearchSpace

MAX_POLICIES = 20_000


class ExhaustiveStrategy(Strategy):
    """All feasible policies, in bisection order of the first cost.

    A budget that ends early has seen the whole range of costs, but at random quality.
    """

    def check(self, space: SearchSpace) -> None:
        """See :class:`Strategy`.

        Raises:
            UsageError: more than 20,000 policies.
        """
        if space.cardinality > MAX_POLICIES:
            raise UsageError(
                f"space '{space.name}' has {space.cardinality:,} policies",
                where="strategy.exhaustive",
                expected=f"at most {MAX_POLICIES:,}",
                fix="offer fewer choices, tie layers, or take strategy=lss",
            )

    def start(self, context: SearchContext) -> None:
        """See :class:`Strategy`."""
        super().start(context)
        self.check(context.space)
        sizes = context.space.sizes
        codes = np.stack(np.unravel_index(np.arange(sizes.prod()), sizes), axis=1)
        codes = codes[context.feasible(codes)]
        order = np.argsort(context.costs.costs(codes)[context.cost_metrics[0]], kind="stable")
        self._queue = Queue(context.space)
        for place in bisection_order(len(codes)):
            self._queue.push(codes[order[place]])

    def ask(self, n: int) -> list[Policy]:
        """See :class:`Strategy`."""
        return self._queue.pop(n)

    def tell(self, results: Sequence[Result]) -> None:
        """Nothing is left to learn."""
