import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from search.solvers.front_dp import solve_front
from search.solvers.greedy import greedy_path
from search.solvers.problem import from_tables, totals


def test_the_cheapest_harm_is_accepted_first():
    score = np.array([[0.0, 1.0], [0.0, 5.0]])
    cost = np.array([[8.0, 4.0], [8.0, 4.0]])
    assert [codes.tolist() for codes in greedy_path(score, cost)] == [[0, 0], [1, 0], [1, 1]]


def test_padding_is_never_chosen():
    score = np.array([[0.0, np.nan], [0.0, 1.0]])
    cost = np.array([[8.0, np.nan], [8.0, 1.0]])
    assert [codes.tolist() for codes in greedy_path(score, cost)] == [[0, 0], [0, 1]]


def test_equal_scores_take_the_cheaper_choice_at_once():
    score = np.array([[0.0, 0.0, 1.0]])
    cost = np.array([[8.0, 4.0, 2.0]])
    assert [codes.tolist() for codes in greedy_path(score, cost)] == [[1], [2]]


@given(st.integers(0, 1000))
def test_every_step_lowers_the_cost_and_the_end_is_the_cheapest(seed):
    rng = np.random.default_rng(seed)
    score, cost = rng.random((5, 4)), rng.random((5, 4))
    path = list(greedy_path(score, cost))
    spent = [cost[np.arange(5), codes].sum() for codes in path]
    assert (np.diff(spent) < 0).all()
    assert path[0].tolist() == score.argmin(axis=1).tolist()
    assert path[-1].tolist() == cost.argmin(axis=1).tolist()


def test_without_cost_the_smallest_harm_comes_first():
    # Per unit of cost the first group is cheaper (2 / 4 against 1 / 1), in harm the second.
    score = np.array([[0.0, 2.0], [0.0, 1.0]])
    cost = np.array([[8.0, 4.0], [8.0, 7.0]])
    assert [c.tolist() for c in greedy_path(score, cost)][1] == [1, 0]
    assert [c.tolist() for c in greedy_path(score, cost, per_cost=False)][1] == [0, 1]


@given(st.integers(0, 1000))
def test_no_greedy_point_beats_the_exact_front(seed):
    rng = np.random.default_rng(seed)
    problem = from_tables(rng.random((5, 3)), [rng.random((5, 3))])
    front = solve_front(problem)
    path = np.array(list(greedy_path(problem.score, problem.costs[0].table)))
    for score, cost in zip(*totals(problem, path), strict=True):
        assert front.score[front.best(cost)] <= score
