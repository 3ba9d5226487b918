import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.errors import InfeasibleError, UsageError
from search.solvers.front_dp import solve_front
from search.solvers.problem import Cost, Edge, Problem, from_tables
from tests.search.solvers.oracle import (
    all_points,
    front_points,
    ladder,
    points_of,
    random_problem,
    total,
)

CHAIN = ((0, 1), (2, 1), (2, 3))
RESIDUAL = ((0, 1), (1, 2), (0, 2), (2, 4), (1, 4))


def assert_equals_enumeration(problem):
    front = solve_front(problem)
    assert front.exact
    assert points_of(front).tolist() == front_points(all_points(problem)).tolist()
    for index in range(len(front)):
        codes = front.policy(index)
        assert problem.offered[np.arange(problem.groups), codes].all()
        assert front.score[index] == total(Cost(problem.score), codes)
        assert front.cost[index].tolist() == [total(cost, codes) for cost in problem.costs]


def test_two_layers_in_closed_form():
    # Saving the first layer's cost of 1 harms by 3, the second's by 2.
    problem = from_tables(np.array([[3.0, 0.0], [2.0, 0.0]]), [np.array([[1.0, 2.0]] * 2)])
    front = solve_front(problem)
    assert front.cost[:, 0].tolist() == [2.0, 3.0, 4.0]
    assert front.score.tolist() == [5.0, 2.0, 0.0]
    assert front.codes.tolist() == [[0, 0], [1, 0], [1, 1]]


def test_identical_layers_have_one_point_per_count():
    problem = from_tables(np.tile([0.3, 0.1, 0.0], (40, 1)), [np.tile([0.1, 0.2, 0.4], (40, 1))])
    front = solve_front(problem)
    # Per saved .1 the first step harms .1, the second .2 / ... : counts decide, not order.
    assert len(front) == len(np.unique(front.cost.round(9)))
    assert len(front) <= 121


@settings(max_examples=150)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(2, 4))
def test_front_equals_enumeration_for_real_tables(seed, groups, choices):
    assert_equals_enumeration(random_problem(np.random.default_rng(seed), groups, choices))


@settings(max_examples=150)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 4), st.sampled_from([2, 5, 50]))
def test_front_equals_enumeration_where_ties_abound(seed, groups, choices, bound):
    rng = np.random.default_rng(seed)
    assert_equals_enumeration(random_problem(rng, groups, choices, integers=bound))


@settings(max_examples=100)
@given(
    st.lists(
        st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0, 1e3)), min_size=1, max_size=3),
        min_size=1,
        max_size=5,
    )
)
def test_points_agree_with_enumeration_for_any_floats(rows):
    score, cost = np.full((2, len(rows), 3), np.nan)
    for g, row in enumerate(rows):
        score[g, : len(row)], cost[g, : len(row)] = zip(*row, strict=True)
    problem = Problem(score, (Cost(cost),))
    front, points = solve_front(problem), all_points(problem)
    scale = np.maximum(np.abs(points).max(axis=0), 1e-300) * 1e-15
    for point in points:
        near = (front.cost[:, 0] <= point[0] + scale[0]) & (front.score <= point[1] + scale[1])
        assert near.any()


@settings(max_examples=80)
@given(st.integers(0, 10**6), st.sampled_from([CHAIN, RESIDUAL]), st.sampled_from([None, 4]))
def test_transition_costs_equal_enumeration(seed, edges, integers):
    rng = np.random.default_rng(seed)
    assert_equals_enumeration(random_problem(rng, 6, 3, integers=integers, edges=edges))


@settings(max_examples=80)
@given(
    st.integers(0, 10**6),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([None, 4]),
    st.sampled_from([(), CHAIN]),
)
def test_several_costs_equal_enumeration(seed, costs, peak, integers, edges):
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, 5, 3, integers=integers, costs=costs, peak=peak, edges=edges)
    assert_equals_enumeration(problem)


def test_parallel_edges_add_up_in_either_direction():
    table = np.zeros((2, 2))
    pair = np.array([[0.0, 1.0], [5.0, 7.0]])
    score = np.array([[1.0, 0.0], [1.0, 0.0]])
    both = Problem(score, (Cost(table, edges=(Edge(0, 1, pair), Edge(1, 0, pair.T))),))
    front = solve_front(both)
    assert front.cost[:, 0].tolist() == [0.0, 2.0, 14.0]


@settings(max_examples=80)
@given(
    st.integers(0, 10**6),
    st.sampled_from([{"epsilon": 0.05}, {"epsilon": 0.4}, {"max_points": 8}, {"max_points": 1}]),
    st.sampled_from([{}, {"costs": 2}, {"peak": True}, {"edges": CHAIN}]),
)
def test_the_guarantee_holds_for_every_policy(seed, bound, kind):
    problem = random_problem(np.random.default_rng(seed), 6, 3, **kind)
    front, points = solve_front(problem, **bound), all_points(problem)
    spans = np.ptp(points[:, :-1], axis=0) + sum(
        float(np.ptp(e.cost)) for e in problem.costs[0].edges
    )
    if "epsilon" in bound:
        assert (np.array(front.error) <= bound["epsilon"] * spans * 1.5).all()
    for point in points:
        near = (front.cost <= point[:-1] + np.array(front.error) + 1e-9).all(axis=1)
        assert (near & (front.score <= point[-1] * (1 + 1e-12))).any()
    assert front.cost[:, 0].min() == points[:, 0].min()


def test_epsilon_bounds_the_error_and_shrinks_the_front():
    problem = ladder(np.random.default_rng(0), 40, 6)
    exact, coarse = solve_front(problem), solve_front(problem, epsilon=0.01)
    span = np.ptp(exact.cost[:, 0])
    assert 0 < coarse.error[0] <= 0.01 * span
    assert len(coarse) < 0.9 * len(exact)
    # Falling scores: the first coarse point that is no worse than each exact one.
    reached = np.searchsorted(-coarse.score, -exact.score)
    assert (coarse.cost[reached, 0] - exact.cost[:, 0]).max() <= coarse.error[0]


def test_max_points_holds_and_is_paid_for_honestly():
    problem = ladder(np.random.default_rng(1), 30, 6)
    front = solve_front(problem, max_points=200)
    assert len(front) <= 200
    assert not front.exact


def test_the_same_front_whatever_the_scale():
    base = ladder(np.random.default_rng(2), 20, 5)
    front = solve_front(base)
    for scale in (2.0**-1000, 2.0**-40, 2.0**40, 2.0**900):
        table = base.costs[0].table * scale
        other = solve_front(Problem(base.score / scale, (Cost(table),)))
        assert other.codes.tolist() == front.codes.tolist()


def test_fifty_three_groups_of_sixteen_choices_match_independent_sums():
    problem = ladder(np.random.default_rng(3), 53, 16)
    front = solve_front(problem)
    assert front.exact
    assert (np.diff(front.cost[:, 0]) > 0).all()
    assert (np.diff(front.score) < 0).all()
    for index in range(0, len(front), 997):
        assert front.score[index] == total(Cost(problem.score), front.policy(index))
    assert front.cost[0, 0] == math.fsum(problem.costs[0].table.min(axis=1))
    assert front.score[-1] == math.fsum(problem.score.min(axis=1))


def test_fixed_constant_and_zero_layers():
    score = np.array([[7.0, np.nan, np.nan], [2.0, 2.0, 2.0], [0.0, 0.0, 0.0], [4.0, 1.0, 0.0]])
    cost = np.array([[5.0, np.nan, np.nan], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    front = solve_front(Problem(score, (Cost(cost),)))
    assert front.codes.tolist() == [[0, 2, 2, 0], [0, 2, 2, 1], [0, 2, 2, 2]]
    everything = solve_front(Problem(np.zeros((9, 3)), (Cost(np.zeros((9, 3))),)))
    assert everything.codes.tolist() == [[0] * 9]


def test_scores_that_contradict_the_cost_leave_one_point():
    cost = np.array([[1.0, 2.0, 3.0]] * 4)
    front = solve_front(Problem(cost, (Cost(cost),)))
    assert front.codes.tolist() == [[0, 0, 0, 0]]


def test_negative_scores_are_solved_as_they_are():
    front = solve_front(from_tables(np.array([[0.0, -1.0]]), [np.array([[1.0, 2.0]])]))
    assert front.score.tolist() == [0.0, -1.0]


def test_best_stays_within_the_limits():
    problem = random_problem(np.random.default_rng(0), 5, 3, costs=2)
    front, points = solve_front(problem), all_points(problem)
    limits = np.median(points[:, :2], axis=0)
    chosen = front.best(limits)
    assert (front.cost[chosen] <= limits).all()
    assert front.score[chosen] == points[(points[:, :2] <= limits).all(axis=1), 2].min()


def test_a_budget_below_the_minimum_names_groups_and_nearest_budget():
    cost = Cost(np.array([[0.3, 0.6], [4.1, np.nan]]), name="latency_ms")
    front = solve_front(Problem(np.array([[1.0, 0.0], [0.0, np.nan]]), (cost,), ("stem", "head")))
    with pytest.raises(InfeasibleError) as caught:
        front.best([4.0])
    assert "limit 4 on latency_ms is below the cheapest policy" in str(caught.value)
    assert "'head' needs 4.1 (fixed), 'stem' needs 0.3" in str(caught.value)
    nearest = float(caught.value.expected.removeprefix("at least "))
    assert front.policy(front.best([nearest])).tolist() == [0, 0]


def test_the_nearest_of_two_limits_keeps_the_other():
    costs = (Cost(np.array([[1.0, 9.0]]), name="a"), Cost(np.array([[9.0, 1.0]]), name="b"))
    front = solve_front(Problem(np.zeros((1, 2)), costs))
    with pytest.raises(InfeasibleError, match="limit 5 on a"):
        front.best([5.0, 5.0])


@pytest.mark.parametrize("bad", [{"epsilon": -0.1}, {"epsilon": 1.0}, {"max_points": 0}])
def test_bounds_that_cannot_be_meant_are_refused(bad):
    with pytest.raises(UsageError, match="0 <= epsilon < 1 and max_points >= 1"):
        solve_front(from_tables(np.zeros((1, 1)), [np.zeros((1, 1))]), **bad)


def test_a_front_needs_a_cost():
    with pytest.raises(UsageError, match="at least one cost"):
        solve_front(Problem(np.zeros((1, 1)), ()))


def test_edges_that_join_everything_are_refused_with_the_groups():
    groups = 8
    hub = tuple(Edge(g, groups - 1, np.zeros((8, 8))) for g in range(groups - 1))
    table = np.zeros((groups, 8))
    with pytest.raises(
        UsageError, match=r"(?s)5 groups open at once, 32768 joint.*group 0, group 1"
    ):
        solve_front(Problem(table, (Cost(table, edges=hub),)))
