"""CLADO: pairs of layers measured together, a quadratic program (arXiv 2307.05657).

The change of the loss is modelled as ``sum_ij x_i O_ij x_j`` over one-hot choices, with the
matrix made positive semidefinite. The paper solves one integer quadratic program per budget with
a commercial solver; here the quadratic is minimised by local search around the exact front of
its diagonal, for all budgets at once, and its front is evaluated in bisection order. Measuring
the pairs costs ``(L B)^2 / 2`` forward passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from quant.errors import UsageError
from search.records import Result
from search.solvers.order import bisection_order
from search.solvers.refine import Landscape, refine
from search.strategies.base import Queue, SearchContext, Strategy
from search.strategies.tables import starts
from spaces.policy import Policy

Codes = npt.NDArray[np.int64]


class CladoStrategy(Strategy):
    """Front of a quadratic model of the loss.

    Args:
        score: kind of a score table that predicts the loss of whole policies.
        rounds: rounds of local search.
    """

    def __init__(self, score: str = "clado", rounds: int = 3) -> None:
        self._score, self._rounds = score, rounds

    def needs(self) -> frozenset[str]:
        """See :class:`Strategy`."""
        return frozenset({self._score})

    def start(self, context: SearchContext) -> None:
        """See :class:`Strategy`.

        Raises:
            UsageError: the score predicts no whole policies.
            InfeasibleError: no policy satisfies the constraints.
        """
        super().start(context)
        surrogate = context.scores[self._score].surrogate
        if surrogate is None:
            raise UsageError(
                f"the score '{self._score}' predicts no whole policies",
                where="strategy.clado.score",
                expected="a score with a surrogate",
                fix="score: clado",
            )
        self._predict = surrogate.predict
        self._queue = Queue(context.space)
        pairs = zip(context.cost_metrics, starts(context, self._score), strict=True)
        for points in zip_longest(*(self._front(metric, begin) for metric, begin in pairs)):
            for codes in points:
                if codes is not None:
                    self._queue.push(codes)

    def ask(self, n: int) -> list[Policy]:
        """See :class:`Strategy`."""
        return self._queue.pop(n)

    def tell(self, results: Sequence[Result]) -> None:
        """The front is fixed by the pairs."""

    def _front(self, metric: str, begin: Codes) -> list[Codes]:
        context = self.context
        landscape = Landscape(
            context.space.sizes,
            self._loss,
            lambda codes: context.costs.costs(codes)[metric],
            context.feasible,
        )
        front = refine(begin, landscape, rounds=self._rounds)
        return [front.codes[index] for index in bisection_order(len(front.codes))]

    def _loss(self, codes: Codes) -> npt.NDArray[np.float64]:
        found = self._predict(codes)
        return np.asarray(found["ce"] if "ce" in found else found["kl"])
