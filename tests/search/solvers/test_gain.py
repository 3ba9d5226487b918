import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from search.pareto import hypervolume
from search.solvers.gain import expected_gain

WORST = (1.0, 1.0)
unit = st.floats(0, 1, allow_subnormal=False)


def gain(mean, deviation, cost, seen):
    return expected_gain(
        np.atleast_1d(mean).astype(float), np.atleast_1d(deviation).astype(float),
        np.atleast_1d(cost).astype(float), np.asarray(seen, float).reshape(-1, 2), WORST,
    )  # fmt: skip


def test_nothing_seen_and_no_doubt_gives_the_whole_rectangle():
    assert np.allclose(gain(0.25, 1e-9, 0.5, []), 0.75 * 0.5)


def test_a_certain_point_behind_the_front_gains_nothing():
    assert np.allclose(gain(0.5, 1e-9, 0.5, [(0.4, 0.4)]), 0)


def test_doubt_at_the_threshold_gains_the_known_mean_of_half_a_normal():
    # E[max(-Y, 0)] of a standard normal is 1 / sqrt(2 pi).
    expected = 0.1 / np.sqrt(2 * np.pi) * 0.5
    assert np.allclose(gain(0.4, 0.1, 0.5, [(0.4, 0.2)]), expected)


def test_more_doubt_never_gains_less():
    gains = gain(
        np.full(5, 0.5), np.array([0.01, 0.05, 0.1, 0.5, 1]), np.full(5, 0.5), [(0.4, 0.2)]
    )
    assert (np.diff(gains) > 0).all()


@given(arrays(float, (4, 2), elements=unit), unit, unit)
def test_without_doubt_it_is_the_growth_of_the_hypervolume(seen, mean, cost):
    grown = hypervolume(np.vstack([seen, [(mean, cost)]]), np.array(WORST))
    growth = grown - hypervolume(seen, np.array(WORST))
    assert np.allclose(gain(mean, 1e-9, cost, seen), growth, atol=1e-7)


def test_it_is_the_mean_over_draws_of_the_loss():
    rng = np.random.default_rng(0)
    seen = np.array([(0.8, 0.1), (0.5, 0.3), (0.2, 0.7)])
    draws = rng.normal(0.45, 0.2, 20_000)
    before = hypervolume(seen, np.array(WORST))
    grown = [hypervolume(np.vstack([seen, [(y, 0.25)]]), np.array(WORST)) for y in draws[:4000]]
    found = gain(0.45, 0.2, 0.25, seen)[0]
    error = np.std(grown) / np.sqrt(len(grown))
    assert abs(np.mean(grown) - before - found) < 4 * error
