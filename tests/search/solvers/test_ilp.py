import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.errors import InfeasibleError, UsageError
from search.solvers import ilp
from search.solvers.ilp import Limit, solve
from search.solvers.order import bisection_order
from search.solvers.problem import Cost, Edge


def brute_force(score, cost, limit):
    return min(
        (
            sum(score[g, c] for g, c in enumerate(codes))
            for codes in itertools.product(*(np.flatnonzero(~np.isnan(row)) for row in score))
            if sum(cost[g, c] for g, c in enumerate(codes)) <= limit + 1e-12
        ),
        default=None,
    )


@pytest.mark.parametrize("solver", ["cbc", "highs"])
def test_two_groups_in_closed_form(solver):
    score = np.array([[4.0, 1.0], [3.0, 0.0]])
    cost = np.array([[1.0, 2.0], [1.0, 2.0]])
    found = solve(score, [Limit(cost, 3.0)], solver)
    # Saving group 0 costs 3 and group 1 costs 3 as well: 4 + 0 against 1 + 3.
    assert found.objective == 4.0
    assert found.usage == (3.0,)
    assert solve(score, [Limit(cost, 4.0)], solver).codes.tolist() == [1, 1]
    assert solve(score, [Limit(cost, 2.0)], solver).codes.tolist() == [0, 0]


def test_cbc_is_not_asked_for_threads():
    """Asked for one, it sleeps for 10 s in one solve of thirty (docs/measurements.md)."""
    assert "threads" not in ilp._solver("cbc").optionsDict


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([1e-12, 1e-6, 1.0, 1e12]),
    st.sampled_from(["cbc", "highs"]),
)
def test_optimum_equals_enumeration_at_any_scale(seed, scale, solver):
    rng = np.random.default_rng(seed)
    score = rng.lognormal(0, 2, (5, 3)) * scale
    cost = rng.uniform(1, 10, (5, 3))
    score[0, 2] = cost[0, 2] = np.nan
    low, high = np.nanmin(cost, axis=1).sum(), np.nanmax(cost, axis=1).sum()
    for share in (0.1, 0.5, 0.9):
        limit = low + share * (high - low)
        found = solve(score, [Limit(cost, limit)], solver)
        best = brute_force(score, cost, limit)
        span = np.nanmax(score, axis=1).sum() - np.nanmin(score, axis=1).sum()
        assert abs(found.objective - best) <= 1e-6 * span
        assert found.usage[0] <= limit


def test_several_limits_hold_together():
    rng = np.random.default_rng(0)
    score = rng.random((6, 3))
    costs = [rng.uniform(1, 5, (6, 3)) for _ in range(2)]
    limits = [Limit(cost, cost.min(axis=1).sum() + 4.0) for cost in costs]
    found = solve(score, limits)
    for used, limit in zip(found.usage, limits, strict=True):
        assert used <= limit.limit


def test_a_limit_below_the_cheapest_policy_prints_the_range():
    cost = np.array([[1.0, 2.0], [3.0, 5.0]])
    with pytest.raises(
        InfeasibleError, match=r"(?s)limit 3.5 on cost is below.*expected: at least 4"
    ):
        solve(np.zeros((2, 2)), [Limit(cost, 3.5)])


def test_equal_scores_are_solved_too():
    found = solve(np.zeros((3, 2)), [Limit(np.ones((3, 2)), 3.0)])
    assert found.objective == 0.0


def test_a_peak_limit_forbids_choices():
    score, peak = np.array([[0.0, 1.0], [0.0, 2.0]]), np.array([[9.0, 4.0], [5.0, 3.0]])
    found = solve(score, [Limit(Cost(peak, "max", name="peak_bytes"), 5.0)])
    assert found.codes.tolist() == [1, 0]
    assert found.usage == (5.0,)


def test_a_peak_limit_below_reach_names_only_the_groups_above_it():
    peak = Cost(np.array([[9.0, 6.0], [5.0, 3.0], [8.0, 8.0]]), "max", name="peak_bytes")
    with pytest.raises(InfeasibleError) as caught:
        solve(np.zeros((3, 2)), [Limit(peak, 5.0)], names=("stem", "body", "head"))
    assert "limit 5 on peak_bytes" in str(caught.value)
    assert caught.value.where == "'head' needs 8, 'stem' needs 6"
    assert caught.value.expected == "at least 8"


def test_a_peak_limit_counts_when_the_reach_of_a_sum_is_told():
    size = Cost(np.array([[1.0, 5.0]]), name="size_bytes")
    peak = Cost(np.array([[9.0, 4.0]]), "max", name="peak_bytes")
    with pytest.raises(InfeasibleError, match=r"(?s)limit 3 on size_bytes.*at least 5"):
        solve(np.zeros((1, 2)), [Limit(size, 3.0), Limit(peak, 4.0)])


@pytest.mark.parametrize("solver", ["cbc", "highs"])
def test_limits_that_exclude_each_other_print_the_nearest_pair(solver):
    a = Cost(np.array([[0.0, 4.0], [0.0, 4.0]]), name="size_bytes")
    b = Cost(np.array([[4.0, 0.0], [4.0, 0.0]]), name="latency_ms")
    with pytest.raises(InfeasibleError) as caught:
        solve(np.zeros((2, 2)), [Limit(a, 3.0), Limit(b, 3.0)], solver)
    assert "no policy is within all limits together: size_bytes 3, latency_ms 3" in str(
        caught.value
    )
    assert caught.value.expected == "for example size_bytes 4, latency_ms 4"
    assert solve(np.zeros((2, 2)), [Limit(a, 4.0), Limit(b, 4.0)], solver).usage == (4.0, 4.0)


@pytest.mark.parametrize("solver", ["cbc", "highs"])
def test_transition_costs_below_reach_print_the_nearest_limit(solver):
    edge = Edge(0, 1, np.array([[5.0, 2.0], [2.0, 5.0]]))
    cost = Cost(np.array([[1.0, 1.0], [1.0, 1.0]]), edges=(edge,), name="latency_ms")
    with pytest.raises(InfeasibleError, match=r"(?s)limit 3 on latency_ms.*at least 4"):
        solve(np.zeros((2, 2)), [Limit(cost, 3.0)], solver)
    assert solve(np.zeros((2, 2)), [Limit(cost, 4.0)], solver).usage == (4.0,)


@pytest.mark.parametrize("solver", ["cbc", "highs"])
def test_a_limit_is_never_exceeded_by_the_solvers_tolerance(solver):
    # The better policy costs 1e-9 more than the limit, less than solvers look at.
    score, cost = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 2.0], [1.0, 2.0 + 1e-9]])
    found = solve(score, [Limit(cost, 4.0)], solver)
    assert found.usage[0] <= 4.0
    assert found.objective == 1.0


def test_without_limits_every_group_takes_its_least_score():
    assert solve(np.array([[2.0, 1.0], [0.0, np.nan]]), []).codes.tolist() == [1, 0]


def test_negative_scores_are_accepted_as_they_are():
    found = solve(np.array([[0.0, -2.0], [-1.0, 3.0]]), [Limit(np.ones((2, 2)), 2.0)])
    assert found.objective == -3.0


def test_the_solution_says_how_it_was_found():
    found = solve(np.zeros((1, 1)), [], "highs")
    assert (found.solver, found.gap) == ("highs", 0.0)
    assert found.seconds > 0


def test_unknown_solver_names_the_known_ones():
    with pytest.raises(
        UsageError, match=r"(?s)unknown solver 'cb'.*cbc, highs.*did you mean 'cbc'"
    ):
        solve(np.zeros((1, 1)), [], "cb")


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 257])
def test_bisection_order_is_a_permutation(n):
    assert sorted(bisection_order(n)) == list(range(n))


def test_bisection_order_halves_the_largest_gap():
    assert bisection_order(9)[:5] == [0, 8, 4, 2, 6]
