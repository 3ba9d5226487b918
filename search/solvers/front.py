"""What front solvers return: nondominated policies, and the best of them within limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.solvers.dominance import nondominated
from search.solvers.problem import AnyCodes, Codes, Floats, Problem, infeasible, totals


@dataclass(frozen=True, eq=False)
class Front:
    """Mutually nondominated policies by rising first cost.

    Attributes:
        problem: what was solved.
        score: ``float[P]``, correctly rounded sums.
        cost: ``float[P, K]``, correctly rounded sums or maxima.
        codes: narrow unsigned ``int[P, groups]``.
        error: guarantee for each cost, in its unit: for every policy there is one on the front
            with no worse score and at most this much more of each cost. All zero: exact.
    """

    problem: Problem
    score: Floats
    cost: Floats
    codes: AnyCodes
    error: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.score)

    @property
    def exact(self) -> bool:
        """Whether every nondominated point is there."""
        return not any(self.error)

    def policy(self, index: int) -> Codes:
        """Codes ``int[groups]`` of one point."""
        return np.array(self.codes[index], dtype=np.int64)

    def best(self, limits: Sequence[float]) -> int:
        """Index of the least score whose costs stay within ``limits``, one per cost.

        Raises:
            InfeasibleError: no point does; names the binding groups and the nearest limit.
        """
        bounds = np.asarray(limits, dtype=np.float64)
        inside = np.flatnonzero((self.cost <= bounds).all(axis=1))
        if not len(inside):
            raise infeasible(self.problem, *self._tightest(bounds))
        return int(inside[np.argmin(self.score[inside])])

    def _tightest(self, bounds: Floats) -> tuple[int, float, float]:
        """Axis, limit and nearest feasible limit when the other limits are kept if possible."""
        over = self.cost > bounds
        axis = int(np.argmax(over.all(axis=0))) if over.all(axis=0).any() else 0
        others = np.delete(over, axis, axis=1).any(axis=1)
        pool = self.cost[~others, axis] if (~others).any() else self.cost[:, axis]
        return axis, float(bounds[axis]), float(pool.min())


def front_of(problem: Problem, codes: AnyCodes, error: Sequence[float] = ()) -> Front:
    """Recomputes the totals of ``codes[P, groups]`` and keeps the nondominated policies.

    Of policies with equal totals the first is kept.
    """
    score, cost = totals(problem, codes)
    ranks = [np.unique(column, return_inverse=True)[1] for column in (*cost.T, score)]
    keep = nondominated(np.stack(ranks))
    return Front(
        problem, score[keep], cost[keep], codes[keep], tuple(error) or (0.0,) * len(problem.costs)
    )
