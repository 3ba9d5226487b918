import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.stats import bootstrap, kendall_tau, spearman, wilson


def test_wilson_of_a_known_case():
    low, high = wilson(8, 10)
    assert low == pytest.approx(0.4901, abs=1e-4)
    assert high == pytest.approx(0.9433, abs=1e-4)


def test_wilson_without_samples_knows_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_share_and_stays_within_0_and_1(n, data):
    hits = data.draw(st.integers(0, n))
    low, high = wilson(hits, n)
    assert 0 <= low <= hits / n + 1e-12
    assert hits / n - 1e-12 <= high <= 1


def test_bootstrap_of_a_constant_has_no_width():
    assert bootstrap(np.full(7, 3.0), np.random.default_rng(0)) == (3.0, 3.0)


def test_bootstrap_interval_of_a_mean_matches_the_normal_one():
    rng = np.random.default_rng(1)
    values = rng.normal(size=400)
    low, high = bootstrap(values, rng, np.mean)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)


def test_bootstrap_of_nothing_is_nan():
    assert all(math.isnan(end) for end in bootstrap(np.array([]), np.random.default_rng(0)))


ranking = st.lists(st.integers(0, 20), min_size=3, max_size=12)


@given(ranking)
def test_rank_correlations_of_a_ranking_with_itself_are_one(values):
    if len(set(values)) < 2:
        assert math.isnan(kendall_tau(values, values))
        assert math.isnan(spearman(np.array(values), np.array(values)))
        return
    assert kendall_tau(values, values) == pytest.approx(1)
    assert kendall_tau(values, [-v for v in values]) == pytest.approx(-1)
    assert spearman(np.array(values), np.array(values) * 3 + 1) == pytest.approx(1)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=4, max_size=12))
def test_rank_correlations_equal_scipy(pairs):
    from scipy import stats as reference

    x, y = (np.array(column) for column in zip(*pairs, strict=True))
    if len(set(x)) < 2 or len(set(y)) < 2:
        return
    assert kendall_tau(x, y) == pytest.approx(reference.kendalltau(x, y).statistic)
    assert spearman(x, y) == pytest.approx(reference.spearmanr(x, y).statistic)
