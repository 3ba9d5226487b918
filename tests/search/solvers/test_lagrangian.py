import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import InfeasibleError, UsageError
from search.solvers.front_dp import solve_front
from search.solvers.lagrangian import solve_hull
from search.solvers.problem import Cost, Edge, Problem, from_tables
from tests.search.solvers.oracle import ladder, points_of, random_problem


def test_a_point_above_the_chord_is_not_supported():
    # At cost 2 the chord from (1, 4) to (3, 0) lies at 2.
    below = solve_hull(from_tables(np.array([[4.0, 1.0, 0.0]]), [np.array([[1.0, 2.0, 3.0]])]))
    above = solve_hull(from_tables(np.array([[4.0, 3.0, 0.0]]), [np.array([[1.0, 2.0, 3.0]])]))
    assert below.front.codes.tolist() == [[0], [1], [2]]
    assert above.front.codes.tolist() == [[0], [2]]


def test_bound_and_gap_in_closed_form():
    hull = solve_hull(from_tables(np.array([[4.0, 0.0]]), [np.array([[1.0, 3.0]])]))
    assert hull.lower_bound(2.0) == 2.0
    assert hull.gap(2.0) == 2.0
    assert hull.gap(3.0) == hull.lower_bound(9.0) == 0.0
    assert hull.front.error == (2.0,)


@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 5))
def test_hull_is_the_convex_part_of_the_exact_front(seed, groups, choices):
    problem = random_problem(np.random.default_rng(seed), groups, choices)
    front, hull = solve_front(problem), solve_hull(problem)
    known = {tuple(point) for point in points_of(front)}
    assert {tuple(point) for point in points_of(hull.front)} <= known
    scale = 1e-9 * max(np.ptp(front.score), 1e-300)
    for cost, score in zip(front.cost[:, 0], front.score, strict=True):
        assert hull.lower_bound(cost) <= score + scale
        assert hull.gap(cost) >= hull.front.score[hull.front.best([cost])] - score - scale
    slopes = np.diff(hull.front.score) / np.diff(hull.front.cost[:, 0])
    assert (np.diff(slopes) >= -1e-9 * np.abs(slopes[1:])).all()


@given(st.integers(0, 10**6))
def test_the_stated_error_covers_the_exact_front(seed):
    problem = ladder(np.random.default_rng(seed), 6, 4)
    front, hull = solve_front(problem), solve_hull(problem).front
    for cost, score in zip(front.cost[:, 0], front.score, strict=True):
        near = (hull.cost[:, 0] <= cost + hull.error[0]) & (hull.score <= score)
        assert near.any()


def test_large_problems_have_at_most_one_point_per_choice():
    problem = ladder(np.random.default_rng(0), 300, 8)
    hull = solve_hull(problem).front
    assert len(hull) <= 300 * 7 + 1
    assert hull.score[-1] == pytest.approx(problem.score.min(axis=1).sum())


def test_a_limit_below_the_hull_is_infeasible():
    hull = solve_hull(from_tables(np.zeros((1, 1)), [np.ones((1, 1))]))
    with pytest.raises(InfeasibleError, match=r"(?s)limit 0.5.*at least 1"):
        hull.lower_bound(0.5)


@pytest.mark.parametrize(
    "costs",
    [
        (),
        (Cost(np.ones((2, 2)), "max"),),
        (Cost(np.ones((2, 2))), Cost(np.ones((2, 2)))),
        (Cost(np.ones((2, 2)), edges=(Edge(0, 1, np.ones((2, 2))),)),),
    ],
)
def test_other_problems_are_sent_to_the_front(costs):
    with pytest.raises(UsageError, match=r"(?s)exactly one summed cost.*front_dp.solve_front"):
        solve_hull(Problem(np.zeros((2, 2)), costs))
