import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.solvers.repair import repair_scores

BITS = np.array([[2.0, 4.0, 8.0]])


def test_good_scores_are_untouched_and_silent():
    score = np.array([[3.0, 1.0, 0.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        repaired, count = repair_scores(score, BITS)
    assert repaired.tolist() == score.tolist()
    assert count == 0


def test_negative_scores_become_zero_and_are_counted():
    with pytest.warns(UserWarning, match="1 of 2 scores were negative"):
        repaired, count = repair_scores(np.array([[1.0, -0.5, np.nan]]))
    np.testing.assert_array_equal(repaired, [[1.0, 0.0, np.nan]])
    assert count == 1


def test_rising_scores_are_pooled():
    with pytest.warns(UserWarning, match="2 of 3"):
        repaired, count = repair_scores(np.array([[1.0, 3.0, 0.5]]), BITS)
    assert repaired.tolist() == [[2.0, 2.0, 0.5]]
    assert count == 2


def test_choices_may_come_in_any_order_and_equal_ones_are_not_compared():
    fineness = np.array([[8.0, 2.0, 4.0, 4.0]])
    score = np.array([[0.0, 3.0, 1.0, 2.0]])
    assert repair_scores(score, fineness)[1] == 0


@pytest.mark.filterwarnings("ignore:.*repaired")
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_the_result_is_monotone_non_negative_and_stable(seed, choices):
    rng = np.random.default_rng(seed)
    score, fineness = (
        rng.normal(0, 1, (4, choices)),
        rng.permuted(np.tile(np.arange(choices, dtype=float), (4, 1)), axis=1),
    )
    repaired, count = repair_scores(score, fineness)
    in_order = np.take_along_axis(repaired, np.argsort(fineness, axis=1), axis=1)
    assert (np.diff(in_order, axis=1) <= 1e-12).all()
    assert (repaired >= 0).all()
    assert count == (repaired != score).sum()
    again, changed = repair_scores(repaired, fineness)
    assert changed == 0
    assert again.tolist() == repaired.tolist()


@pytest.mark.filterwarnings("ignore:.*repaired")
@given(st.integers(0, 10**6))
def test_no_feasible_scores_are_closer(seed):
    rng = np.random.default_rng(seed)
    score = rng.normal(0.3, 1, (1, 4))
    repaired, _ = repair_scores(score, np.arange(4.0)[None, :])
    distance = ((repaired - score) ** 2).sum()
    for _ in range(50):
        other = -np.sort(-np.abs(rng.normal(0, 1, 4)))
        for share in (1.0, 0.1, 0.01):
            mixed = repaired + share * (other - repaired)
            assert ((mixed - score) ** 2).sum() >= distance - 1e-12
