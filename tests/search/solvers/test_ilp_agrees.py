"""The integer program and the exact front must not differ."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from search.solvers.front_dp import solve_front
from search.solvers.ilp import Limit, solve
from search.solvers.problem import Cost, Problem
from tests.search.solvers.oracle import ladder, random_problem

SOLVERS = ["cbc", "highs"]
BUDGETS = 20


def midway_budgets(front, rng):
    """Budgets halfway between neighbouring attainable costs, tightest and loosest included."""
    cost = front.cost[:, 0]
    between = (cost[1:] + cost[:-1]) / 2
    clear = np.diff(cost) > 1e-9 * np.ptp(cost)
    count = min(BUDGETS, int(clear.sum()))
    between = between[clear]
    if len(between) == 0:  # one attainable cost
        return between
    inner = rng.permutation(between[1:-1])[: count - 2]
    return np.r_[between[[0, -1]], inner]


def assert_agrees(problem, solver, rng):
    front = solve_front(problem)
    span = np.ptp(front.score)
    for limit in midway_budgets(front, rng):
        found = solve(problem.score, [Limit(problem.costs[0], limit)], solver)
        best = front.best([limit])
        assert abs(found.objective - front.score[best]) <= 1e-6 * span
        assert found.usage[0] <= limit


def scaled(problem, score_scale, cost_scale):
    costs = (Cost(problem.costs[0].table * cost_scale),)
    return Problem(problem.score * score_scale, costs)


@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=6)
@given(st.integers(0, 10**6), st.integers(-12, 12), st.integers(-6, 9))
@example(0, -12, 0)
@example(1, 12, 0)
def test_eight_groups_at_twenty_budgets(solver, seed, score_exponent, cost_exponent):
    rng = np.random.default_rng(seed)
    problem = scaled(ladder(rng, 8, 4), 10.0**score_exponent, 10.0**cost_exponent)
    assert_agrees(problem, solver, rng)


@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=1)
@given(st.integers(0, 10**6))
@example(0)
def test_fifty_three_groups_at_twenty_budgets(solver, seed):
    rng = np.random.default_rng(seed)
    for exponent in (-12, 12):
        assert_agrees(scaled(ladder(rng, 53, 4), 10.0**exponent, 1.0), solver, rng)


@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=8)
@given(st.integers(0, 10**6))
@example(256522)
def test_transition_costs_agree(solver, seed):
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, 6, 3, edges=[(0, 1), (1, 2), (4, 2), (4, 5)])
    front = solve_front(problem)
    for limit in midway_budgets(front, rng)[:4]:
        found = solve(problem.score, [Limit(problem.costs[0], limit)], solver)
        assert found.objective == pytest.approx(front.score[front.best([limit])], rel=1e-9)
        assert found.usage[0] <= limit


@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=5)
@given(st.integers(0, 10**6))
def test_several_limits_with_a_peak_agree(solver, seed):
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, 7, 3, costs=2, peak=True)
    front = solve_front(problem)
    for bounds in front.cost[rng.choice(len(front), 3)]:
        limits = [Limit(c, b) for c, b in zip(problem.costs, bounds * (1 + 1e-9), strict=True)]
        found = solve(problem.score, limits, solver)
        best = front.best([item.limit for item in limits])
        assert found.objective == pytest.approx(front.score[best], rel=1e-9)
        assert (np.array(found.usage) <= [item.limit for item in limits]).all()
