import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from search.solvers.greedy import greedy_path


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
