"""The surrogate: closed form on linear maps, then the loop, then resampling and the sketch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.sensitivity.superposition import Superposition, sketched


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def made(groups=3, choices=4, n=20, classes=5, seed=0, labels=True, scale=1.0):
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((n, classes)).astype(np.float32)
    shifts = scale * rng.standard_normal((groups, choices, n, classes)).astype(np.float32)
    shifts[:, -1] = 0
    found = rng.integers(0, classes, n) if labels else None
    return Superposition(base, shifts.astype(np.float32), found)


def slow(surrogate, codes):
    """The definition for one policy."""
    z = surrogate.base.astype(float) + sum(surrogate.shifts[g, c] for g, c in enumerate(codes))
    p, q = softmax(surrogate.base.astype(float)), softmax(z)
    rows = np.arange(surrogate.n)
    return {
        "kl": (p * np.log(p / q)).sum(1).mean(),
        "ce": -np.log(q[rows, surrogate.labels]).mean(),
        "accuracy": (z.argmax(1) == surrogate.labels).mean(),
    }


def test_no_shift_is_the_float_model():
    surrogate = made()
    found = surrogate.predict(np.full(3, 3))
    assert found["kl"] == pytest.approx(0, abs=1e-12)
    assert found["ce"] == pytest.approx(slow(surrogate, [3, 3, 3])["ce"])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.floats(0.01, 20))
def test_predictions_equal_the_definition(seed, groups, scale):
    surrogate = made(groups, seed=seed, scale=scale)
    codes = np.random.default_rng(seed).integers(0, 4, (7, groups))
    found = surrogate.predict(codes)
    for row, policy in enumerate(codes):
        for name, value in slow(surrogate, policy).items():
            assert found[name][row] == pytest.approx(value, rel=1e-4, abs=1e-5)


def test_without_labels_only_divergence_is_known():
    assert set(made(labels=False).predict(np.zeros((2, 3), int))) == {"kl"}


def test_chunks_do_not_change_predictions(monkeypatch):
    surrogate = made()
    codes = np.random.default_rng(1).integers(0, 4, (50, 3))
    whole = surrogate.predict(codes)
    monkeypatch.setattr("quant.sensitivity.superposition.CHUNK_BYTES", 1000)
    for name, values in surrogate.predict(codes).items():
        assert np.array_equal(values, whole[name])


def test_swaps_are_predictions_of_neighbours():
    surrogate = made()
    here = np.array([0, 2, 1])
    table = surrogate.swaps(here)
    for g in range(3):
        for c in range(4):
            there = here.copy()
            there[g] = c
            assert table[g, c] == pytest.approx(surrogate.predict(there)["ce"][0], rel=1e-5)


def test_interactions_are_seen_where_sums_of_single_effects_are_blind():
    # Two groups shift the same logit in opposite ways: together they cancel.
    base = np.zeros((4, 2), np.float32)
    shifts = np.zeros((2, 2, 4, 2), np.float32)
    shifts[0, 0, :, 0], shifts[1, 0, :, 0] = 3.0, -3.0
    found = Superposition(base, shifts).predict(np.array([[0, 1], [1, 0], [0, 0]]))["kl"]
    assert found[0] > 0.5
    assert found[1] > 0.5
    assert found[2] == pytest.approx(0, abs=1e-9)


def test_resampled_means_scatter_around_the_prediction():
    surrogate = made(n=200)
    codes = np.random.default_rng(0).integers(0, 4, (5, 3))
    drawn = surrogate.resampled(codes, np.random.default_rng(0), resamples=2000)
    losses = surrogate.losses(codes)
    assert drawn.shape == (2000, 5)
    assert np.allclose(drawn.mean(0), losses.mean(1), rtol=0.02)
    assert np.allclose(drawn.std(0), losses.std(1) / 200**0.5, rtol=0.1)


def test_front_probabilities_are_sure_where_all_samples_agree():
    base = np.zeros((30, 2), np.float32)
    shifts = np.zeros((1, 3, 30, 2), np.float32)
    shifts[0, 0, :, 1], shifts[0, 1, :, 1] = 4.0, 2.0
    surrogate = Superposition(base, shifts, np.zeros(30, np.int64))
    codes = np.array([[0], [1], [2]])
    rng = np.random.default_rng(0)
    # Worse and cheaper, in between, best and dearest: all on the front.
    assert surrogate.front_probability(codes, np.array([1.0, 2.0, 3.0]), rng).tolist() == [1, 1, 1]
    # The worst is the dearest as well: never on the front; costs tie for the others.
    found = surrogate.front_probability(codes, np.array([3.0, 1.0, 1.0]), rng)
    assert found.tolist() == [0, 0, 1]


def test_a_doubtful_point_has_a_probability_in_between():
    rng = np.random.default_rng(0)
    base = np.zeros((50, 2), np.float32)
    shifts = np.zeros((1, 2, 50, 2), np.float32)
    shifts[0, 0, :, 1] = rng.standard_normal(50) - 0.25
    surrogate = Superposition(base, shifts, np.zeros(50, np.int64))
    found = surrogate.front_probability(np.array([[0], [1]]), np.array([2.0, 1.0]), rng)
    assert found[1] == 1
    assert 0 < found[0] < 1


@pytest.mark.parametrize("kept", [3, 10, 29])
def test_a_sketch_keeps_single_effects_exactly(kept):
    full = made(groups=2, choices=3, n=15, classes=30)
    small = sketched(full, kept)
    assert small.base.shape == (15, kept)
    for codes in ([0, 2], [2, 1], [2, 2]):
        whole, part = full.predict(np.array(codes)), small.predict(np.array(codes))
        assert part["ce"][0] == pytest.approx(whole["ce"][0], rel=1e-5)
        assert part["kl"][0] <= whole["kl"][0] + 1e-6, "gathering classes loses information"


def test_a_sketch_never_answers_with_its_bucket():
    full = made(groups=1, choices=2, n=50, classes=40, scale=0.01)
    small = sketched(full, 8)
    codes = np.array([[0], [1]])
    assert np.array_equal(small.predict(codes)["accuracy"], full.predict(codes)["accuracy"])


@pytest.mark.parametrize("labels", [True, False])
def test_a_surrogate_made_again_from_its_arrays_predicts_the_same(labels):
    surrogate = sketched(made(labels=labels), 3)
    again = Superposition.of(surrogate.arrays())
    codes = np.random.default_rng(0).integers(0, 4, (5, 3))
    assert again.bucket is True
    assert {k: v.tolist() for k, v in again.predict(codes).items()} == {
        k: v.tolist() for k, v in surrogate.predict(codes).items()
    }
