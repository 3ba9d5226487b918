"""Small problems made of arithmetic, for tests of agents."""

import numpy as np

from search.rl.episodes import GEOMETRY, Problem
from search.solvers.front_dp import solve_front
from search.solvers.problem import Cost
from search.solvers.problem import Problem as Additive


def additive(seed=0, groups=16, choices=4):
    """Harm falls fourfold per bit, sizes are bits times weights, both drawn by seed."""
    rng = np.random.default_rng(seed)
    bits = np.array([2, 3, 4, 8, 6, 5])[:choices]
    cost = rng.lognormal(0, 1, groups)[:, None] * np.sort(bits)
    harm = 4.0 * rng.lognormal(0, 1, groups)[:, None] * 4.0 ** -(np.sort(bits) - 2.0)
    return problem_of(cost[None], harm), harm


def problem_of(costs, harm, sizes=None, metrics=("size_bytes",)):
    groups = costs.shape[1]
    sizes = np.full(groups, costs.shape[2]) if sizes is None else np.asarray(sizes)
    geometry = np.zeros((groups, len(GEOMETRY)))
    geometry[:, 0] = np.arange(groups) / groups
    return Problem(metrics, sizes, costs, harm / harm.max(), geometry)


def exact_front(problem, harm):
    """Codes and costs of the exact front."""
    front = solve_front(Additive(harm, (Cost(problem.costs[0]),)))
    codes = np.array(front.codes, dtype=np.int64)
    return codes, problem.costs[0][np.arange(problem.groups), codes].sum(1)
