import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import UsageError
from search.solvers.problem import Cost, Edge, Problem, from_tables, text, totals

TWO = np.array([[1.0, 2.0], [3.0, 4.0]])


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=40), st.integers(-40, 40))
def test_totals_are_what_fsum_gives(values, exponent):
    table = np.ldexp(np.array(values), exponent)[:, None]
    problem = Problem(table, (Cost(table),))
    score, cost = totals(problem, np.zeros((1, len(values)), dtype=np.int64))
    assert score[0] == cost[0, 0] == math.fsum(table[:, 0])


def test_totals_do_not_lose_small_terms_to_cancellation():
    table = np.array([[1e16], [1.0], [-1e16]])
    assert totals(Problem(table, ()), np.zeros((1, 3), dtype=int))[0].tolist() == [1.0]


def test_totals_sum_edges_and_take_maxima():
    edge = Edge(0, 1, np.array([[0.0, 10.0], [20.0, 30.0]]))
    problem = Problem(TWO, (Cost(TWO, edges=(edge,)), Cost(TWO, "max")))
    _, cost = totals(problem, np.array([[0, 1], [1, 0]]))
    assert cost.tolist() == [[15.0, 4.0], [25.0, 3.0]]


def test_sizes_cut_the_choices_only_baselines_take():
    problem = from_tables(TWO, [TWO, Cost(TWO, "max")], np.array([1, 1]))
    assert problem.score.tolist() == [[1.0], [3.0]]
    assert problem.offered.all()


def test_a_missing_score_is_counted_and_named():
    score = np.array([[0.0, np.nan], [np.inf, 1.0]])
    with pytest.raises(UsageError, match=r"2 of 4 scores are not finite.*'stem', choice 1"):
        from_tables(score, [TWO], np.array([2, 2]), ("stem", "head"))


@pytest.mark.parametrize(
    ("score", "costs", "message"),
    [
        (np.zeros(3), (), r"score has shape \(3,\)"),
        (np.array([[np.nan, np.nan]]), (), "group 0 has no choice"),
        (np.array([[0.0, -np.inf]]), (), "score of group 0, choice 1 is not a finite number"),
        (TWO, (Cost(TWO[:1], name="bops"),), r"bops has shape \(1, 2\)"),
        (TWO, (Cost(TWO * np.nan, name="bops"),), "bops of group 0, choice 0 is not a finite"),
        (TWO, (Cost(TWO, "mean"),), r"(?s)unknown rule 'mean'.*max, sum"),
        (TWO, (Cost(TWO, "max", (Edge(0, 1, TWO),)),), "is a maximum and has transition"),
        (TWO, (Cost(TWO, edges=(Edge(0, 0, TWO),)),), r"(?s)groups 0 and 0.*different groups"),
        (TWO, (Cost(TWO, edges=(Edge(0, 5, TWO),)),), r"(?s)groups 0 and 5.*of 0..1"),
        (TWO, (Cost(TWO, edges=(Edge(0, 1, TWO[:1]),)),), "no full transition table from group 0"),
    ],
)
def test_problems_that_cannot_be_meant_are_refused(score, costs, message):
    with pytest.raises(UsageError, match=message):
        Problem(score, costs)


def test_names_must_match_the_groups():
    with pytest.raises(UsageError, match="1 names for 2 groups"):
        Problem(TWO, (), ("stem",))


@pytest.mark.parametrize("value", [4.0, 0.1, 1 / 3, 1e-12, 14.598144])
def test_limits_in_messages_read_back_exactly(value):
    assert float(text(value)) == value
