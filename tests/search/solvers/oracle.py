"""Every policy, one by one: what solvers are compared with."""

import itertools
import math

import numpy as np

from search.solvers.problem import Cost, Edge, Problem


def all_codes(problem):
    choices = (np.flatnonzero(row) for row in problem.offered)
    return np.array(list(itertools.product(*choices)))


def total(cost, codes):
    picked = [cost.table[g, c] for g, c in enumerate(codes)]
    if cost.rule == "max":
        return max(picked)
    links = [edge.cost[codes[edge.first], codes[edge.second]] for edge in cost.edges]
    return math.fsum(picked + links)


def all_points(problem):
    """Costs and score of every policy, ``float[N, K + 1]``."""
    columns = (*problem.costs, Cost(problem.score))
    return np.array([[total(cost, c) for cost in columns] for c in all_codes(problem)])


def front_points(points):
    """Distinct nondominated rows, sorted."""
    points = np.unique(points, axis=0)
    if points.shape[1] == 2:
        best = np.minimum.accumulate(points[:, 1])
        return points[np.r_[True, points[1:, 1] < best[:-1]]]
    keep = [
        i
        for i, point in enumerate(points)
        if not ((points <= point).all(axis=1) & (points < point).any(axis=1)).any()
    ]
    return points[keep]


def points_of(front):
    return np.unique(np.column_stack([front.cost, front.score]), axis=0)


def random_problem(rng, groups, choices, *, integers=None, costs=1, peak=False, edges=()):
    """A table problem; ``integers`` bounds whole-number entries and makes ties common."""

    def draw(*shape):
        if integers is not None:
            return rng.integers(0, integers, shape).astype(float)
        return rng.lognormal(0, 2, shape)

    score = draw(groups, choices)
    sizes = np.where(rng.random(groups) < 0.3, rng.integers(1, choices + 1, groups), choices)
    score[np.arange(choices)[None, :] >= sizes[:, None]] = np.nan
    links = tuple(Edge(a, b, draw(choices, choices)) for a, b in edges)
    tables = [Cost(draw(groups, choices), edges=links)]
    tables += [Cost(draw(groups, choices)) for _ in range(costs - 1)]
    tables += [Cost(draw(groups, choices), "max")] if peak else []
    return Problem(score, tuple(tables))


def ladder(rng, groups, choices):
    """Every choice nondominated: the hardest tables for a front."""
    scale = rng.lognormal(0, 1, (groups, 1))
    score = -np.sort(-rng.lognormal(0, 1.5, (groups, choices)), axis=1) * scale
    cost = np.sort(rng.uniform(0, 1, (groups, choices)), axis=1) * rng.lognormal(0, 1, (groups, 1))
    return Problem(score, (Cost(cost),))
