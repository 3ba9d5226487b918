"""Supported policies: the convex hull of the front, and lower bounds from it.

For a price ``lambda`` on cost, ``min sum s + lambda t`` splits into groups; as the price falls,
one group after the other moves along its own hull. Sweeping all breakpoints in order gives
every supported policy in ``O(G C log(G C))``, hundreds of points where the front has thousands.
The hull is also the linear relaxation of the integer program, hence a lower bound on the score
at any cost (Sinha and Zoltners, 1979).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import itemgetter

import numpy as np

from quant.errors import UsageError
from search.solvers.front import Front, front_of
from search.solvers.problem import Floats, Problem, infeasible


@dataclass(frozen=True, eq=False)
class Hull:
    """Supported policies and what they prove about all others.

    Attributes:
        front: policies by rising cost. Its ``error`` is the largest step in cost: no policy
            has a better score than the next dearer one on the hull.
    """

    front: Front

    def lower_bound(self, limit: float) -> float:
        """No policy within ``limit`` has a smaller score (up to rounding).

        Raises:
            InfeasibleError: ``limit`` is below the cheapest policy.
        """
        cost = self.front.cost[:, 0]
        if limit < cost[0]:
            raise infeasible(self.front.problem, 0, limit, float(cost[0]))
        return float(np.interp(limit, cost, self.front.score))

    def gap(self, limit: float) -> float:
        """How much better than the best supported policy within ``limit`` one could be."""
        return float(self.front.score[self.front.best([limit])] - self.lower_bound(limit))


def solve_hull(problem: Problem) -> Hull:
    """All supported policies of a problem with one summed cost and no transition terms.

    Raises:
        UsageError: another kind of problem; :mod:`search.solvers.front_dp` solves those.
    """
    if len(problem.costs) != 1 or problem.costs[0].rule != "sum" or problem.costs[0].edges:
        raise UsageError(
            "a hull needs exactly one summed cost without transition terms",
            fix="use front_dp.solve_front",
        )
    cost = problem.costs[0].table
    paths = [_group_hull(problem.score[g], cost[g]) for g in range(problem.groups)]
    moves = [
        (slope, g, choice)
        for g, path in enumerate(paths)
        for slope, choice in _slopes(problem.score[g], cost[g], path)
    ]
    # Steepest first; a stable sort keeps every group's own order.
    steps = sorted(moves, key=itemgetter(0))
    codes = np.empty((len(steps) + 1, problem.groups), dtype=np.int64)
    codes[0] = [path[0] for path in paths]
    for row, (_, g, choice) in enumerate(steps, start=1):
        codes[row] = codes[row - 1]
        codes[row, g] = choice
    front = front_of(problem, codes)
    step = float(np.diff(front.cost[:, 0]).max(initial=0.0))
    return Hull(replace(front, error=(step,)))


def _group_hull(score: Floats, cost: Floats) -> list[int]:
    """Choices on the lower convex hull, from the cheapest to the least score."""
    offered = np.flatnonzero(~np.isnan(score))
    hull: list[int] = []
    for c in offered[np.lexsort((score[offered], cost[offered]))]:
        if hull and score[c] >= score[hull[-1]]:
            continue
        while len(hull) > 1 and _rate(score, cost, hull[-1], c) <= _rate(score, cost, *hull[-2:]):
            hull.pop()
        if hull and cost[c] == cost[hull[-1]]:
            hull.pop()
        hull.append(int(c))
    return hull


def _slopes(score: Floats, cost: Floats, path: list[int]) -> Iterator[tuple[float, int]]:
    """Score per cost of each step of a group; never falls along the path, rounding included."""
    steepest = -np.inf
    for before, after in pairwise(path):
        steepest = max(steepest, _rate(score, cost, before, after))
        yield float(steepest), after


def _rate(score: Floats, cost: Floats, before: int, after: int) -> float:
    return float((score[after] - score[before]) / (cost[after] - cost[before]))
