import numpy as np
import pytest

from search.solvers.residual import Points, Prior, places, posterior

RNG = np.random.default_rng(0)


def points(n, groups=5, seed=0):
    rng = np.random.default_rng(seed)
    return Points(rng.integers(0, 4, (n, groups)) / 3, rng.normal(size=n))


def test_places_rank_choices_by_cost():
    cost = np.array([[8.0, 2.0, 4.0], [1.0, 2.0, np.nan]])
    codes = np.array([[0, 0], [1, 1], [2, 0]])
    assert np.allclose(places(codes, cost), [[1, 0], [0, 1], [0.5, 0]])


def test_a_group_without_alternative_is_at_zero():
    assert np.allclose(places(np.array([[0]]), np.array([[3.0, np.nan]])), 0)


def test_knowing_nothing_gives_the_prior():
    prior = Prior(shift=0.3, opinion=0.5, local=0.4)
    wanted = Points(np.zeros((1, 2)), np.array([2.0]))
    mean, deviation = posterior(points(0, 2), np.empty(0), wanted, prior)
    assert mean == 0
    assert deviation == pytest.approx(np.sqrt(0.09 + 1.0 + 0.16))


def test_without_noise_known_policies_are_known_exactly():
    known = points(6)
    residual = RNG.normal(size=6)
    mean, deviation = posterior(known, residual, known, Prior(noise=1e-6))
    assert np.allclose(mean, residual, atol=1e-4)
    assert (deviation < 1e-3).all()


def test_a_common_shift_reaches_policies_far_away():
    known = Points(np.zeros((1, 40)), np.zeros(1))
    far = Points(np.ones((1, 40)), np.zeros(1))
    prior = Prior(shift=1.0, local=1.0, noise=1e-6)
    mean, _ = posterior(known, np.array([0.8]), far, prior)
    assert mean[0] == pytest.approx(0.4, abs=1e-3)


def test_without_a_shift_policies_far_away_fall_back_to_the_surrogate():
    known = Points(np.zeros((1, 40)), np.zeros(1))
    far = Points(np.ones((1, 40)), np.zeros(1))
    mean, deviation = posterior(known, np.array([5.0]), far, Prior(shift=0.0))
    assert abs(mean[0]) < 1e-6
    assert deviation[0] == pytest.approx(Prior().local)


def test_the_weight_of_the_second_opinion_is_learnt():
    opinion = RNG.normal(size=30)
    known = Points(np.zeros((30, 3)), opinion)
    wanted = Points(np.zeros((2, 3)), np.array([1.0, -2.0]))
    mean, _ = posterior(known, 0.7 * opinion, wanted, Prior(shift=1e-3, local=1e-3))
    assert np.allclose(mean, [0.7, -1.4], atol=0.02)


def test_evidence_never_adds_doubt():
    known, wanted = points(8), points(20, seed=1)
    residual = RNG.normal(size=8)
    few = Points(known.place[:4], known.opinion[:4])
    _, before = posterior(few, residual[:4], wanted, Prior())
    _, after = posterior(known, residual, wanted, Prior())
    assert (after <= before + 1e-9).all()
