import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import InfeasibleError, UsageError
from search.solvers.front_dp import solve_front
from search.solvers.monotone import monotone_levels, solve_monotone
from search.solvers.problem import Problem, from_tables, totals
from tests.search.solvers.oracle import front_points, points_of

BITS = np.array([2.0, 4.0, 8.0])


def test_three_widths_and_53_layers_have_1485_sequences():
    assert len(monotone_levels(53, 3)) == 1485


@given(st.integers(1, 7), st.integers(1, 4))
def test_sequences_are_exactly_the_monotone_ones(groups, levels):
    listed = [tuple(row) for row in monotone_levels(groups, levels)]
    every = itertools.product(range(levels), repeat=groups)
    assert sorted(listed) == [seq for seq in every if list(seq) == sorted(seq)]
    by_jumps = sum(
        math.comb(levels, j) * math.comb(groups - 1, j - 1) for j in range(1, levels + 1)
    )
    assert len(listed) == by_jumps


def test_the_most_sensitive_layer_never_has_fewer_bits():
    cost = np.tile(BITS, (3, 1))
    problem = from_tables(np.array([[9.0, 3.0, 0.0], [1.0, 0.5, 0.0], [4.0, 2.0, 0.0]]), [cost])
    front = solve_monotone(problem, np.array([0.9, 0.1, 0.5]), cost)
    assert (front.codes[:, 0] >= front.codes[:, 2]).all()
    assert (front.codes[:, 2] >= front.codes[:, 1]).all()
    assert front.codes[0].tolist() == [0, 0, 0]


@given(st.integers(0, 10**6))
def test_front_of_monotone_policies_equals_enumeration(seed):
    rng = np.random.default_rng(seed)
    trace, size = rng.lognormal(0, 1, 5), rng.lognormal(0, 1, (5, 1))
    problem = from_tables(
        trace[:, None] * 4.0**-BITS * rng.lognormal(0, 0.5, (5, 3)), [size * BITS]
    )
    codes = np.array(
        [
            c
            for c in itertools.product(range(3), repeat=5)
            if (np.diff(np.array(c)[np.argsort(trace)]) >= 0).all()
        ]
    )
    score, cost = totals(problem, codes)
    front = solve_monotone(problem, trace, np.tile(BITS, (5, 1)))
    assert points_of(front).tolist() == front_points(np.column_stack([cost, score])).tolist()


@given(st.integers(0, 10**6))
def test_it_is_never_better_than_the_exact_front(seed):
    rng = np.random.default_rng(seed)
    problem = from_tables(rng.random((5, 3)), [rng.random((5, 3))])
    exact = solve_front(problem)
    some = solve_monotone(problem, rng.random(5), np.tile(BITS, (5, 1)))
    for cost, score in zip(some.cost, some.score, strict=True):
        assert exact.score[exact.best(cost)] <= score


def test_fixed_groups_stay_out_of_the_order():
    score = np.array([[5.0, np.nan], [1.0, 0.0], [1.0, 0.0]])
    problem = Problem(score, from_tables(np.zeros((3, 2)), [np.ones((3, 2)) * [1, 2]]).costs)
    front = solve_monotone(problem, np.array([9.0, 1.0, 2.0]), np.array([[2.0, 8.0]] * 3))
    assert front.codes.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 1]]
    alone = from_tables(np.ones((2, 1)), [np.ones((2, 1))])
    assert solve_monotone(alone, np.ones(2), np.ones((2, 1))).codes.tolist() == [[0, 0]]


def test_widths_not_offered_everywhere_drop_sequences():
    score = np.array([[1.0, 0.5, 0.0], [1.0, np.nan, 0.0]])
    problem = from_tables(score, [np.tile(BITS, (2, 1))])
    front = solve_monotone(problem, np.array([1.0, 2.0]), np.tile(BITS, (2, 1)))
    assert front.codes.tolist() == [[0, 0], [0, 2], [1, 2], [2, 2]]


def test_no_monotone_policy_at_all():
    score = np.array([[0.0, 0.0, np.nan, np.nan], [np.nan, np.nan, 0.0, 0.0]])
    fineness = np.array([[2.0, 3.0, 4.0, 8.0]] * 2)
    problem = from_tables(score, [fineness])
    with pytest.raises(InfeasibleError, match="offered everywhere"):
        solve_monotone(problem, np.array([2.0, 1.0]), fineness)


def test_equally_fine_choices_are_refused():
    problem = from_tables(np.zeros((1, 2)), [np.zeros((1, 2))])
    with pytest.raises(UsageError, match="choices 0 and 1 of group 0 are equally fine"):
        solve_monotone(problem, np.ones(1), np.ones((1, 2)))


def test_enumerations_that_explode_are_refused():
    with pytest.raises(UsageError, match=r"(?s)53 groups have .* monotone.*use front_dp"):
        monotone_levels(53, 8)
