"""Equations of Gholami et al., arXiv 2103.13630, as the survey writes them: uniform (2 to 5),
non-uniform (6 and 7), stochastic (8 and 9), binary (12) and vector quantization (13).
"""

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant.affine import dequantize, fake_quantize, qparams_from_range, quantize
from quant.codebook import fit
from quant.codebook.kmeans import lloyd
from quant.codebook.vector import kmeans_vectors, nearest_word
from quant.formats import parse_format
from quant.levels import level_table, nearest_level, pick_level
from quant.stochastic import stochastic_binary, stochastic_round

REALS = hnp.arrays("float32", 20, elements=st.floats(-100, 100, width=16))


def asymmetric(x, text="int8u"):
    return qparams_from_range(x.min(), x.max(), parse_format(text))


@given(REALS)
def test_equations_2_and_3_with_the_sign_of_the_survey(values):
    """``Q(r) = Int(r / S) - Z`` and ``r~ = S (Q(r) + Z)``, with Z the negative zero point."""
    x = torch.from_numpy(values)
    q = asymmetric(x)
    z = -q.zero_point
    codes = torch.round(x * q.scale.reciprocal()) - z
    assert torch.equal(codes.clamp(0, 255).int(), quantize(x, q))
    assert torch.equal(q.scale * (quantize(x, q) + z), dequantize(quantize(x, q), q))


def test_equation_4_the_scale_of_a_clipping_range():
    x = torch.tensor([-0.5, 1.5])
    for bits in (2, 4, 8):
        scale = asymmetric(x, f"int{bits}u").scale.item()
        assert abs(scale - (1.5 + 0.5) / (2**bits - 1)) < 1e-7


def test_the_survey_example_of_symmetric_and_asymmetric_ranges():
    """alpha = -0.5, beta = 1.5: the symmetric range [-1.5, 1.5] is wider, hence coarser."""
    low, high = torch.tensor(-0.5), torch.tensor(1.5)
    symmetric = qparams_from_range(low, high, parse_format("int8sr"))
    assert symmetric.scale.item() == torch.tensor(1.5).div(127).item()
    assert symmetric.zero_point.item() == 0
    assert asymmetric(torch.stack([low, high])).scale < symmetric.scale


def test_equation_5_full_and_restricted_range():
    """S = 2 max|r| / (2^n - 1) in full range, max|r| / (2^(n-1) - 1) in restricted range."""
    peak = torch.tensor(3.0)
    full = qparams_from_range(-peak, peak, parse_format("int8s"))
    restricted = qparams_from_range(-peak, peak, parse_format("int8sr"))
    torch.testing.assert_close(full.scale, 2 * peak / 255)
    torch.testing.assert_close(restricted.scale, peak / 127)


@given(REALS)
def test_non_uniform_quantization_maps_intervals_to_levels(values):
    """``Q(r) = X_i`` for ``r`` in ``[D_i, D_i+1)``: steps in the middle between levels."""
    x = torch.from_numpy(values)
    fmt = parse_format("pot4")
    q = qparams_from_range(-x.abs().max(), x.abs().max(), fmt)
    levels = level_table(fmt).float() * q.scale
    steps = (levels[1:] + levels[:-1]) / 2
    found = fake_quantize(x, q)
    place = (found[:, None] - levels).abs().argmin(1)
    lower = torch.cat([torch.tensor([-torch.inf]), steps])[place]
    upper = torch.cat([steps, torch.tensor([torch.inf])])[place]
    slack = 1e-5 * x.abs().max()
    assert bool(((x >= lower - slack) & (x <= upper + slack)).all())


LEVELS = hnp.arrays("float32", (1, 12), elements=st.floats(-10, 10, width=16))


@given(LEVELS)
def test_the_survey_objective_of_non_uniform_levels(values):
    """Equation 7, ``min_Q |Q(r) - r|^2`` over steps and levels: k-means is at a fixed point of
    it, where every level is the mean of what it takes and every value takes its nearest level.
    """
    x = torch.from_numpy(values)
    levels = lloyd(x, torch.ones_like(x), 4, rounds=500)
    places = nearest_level(x, levels)
    for k in range(4):
        taken = x[places == k]
        if len(taken):
            assert abs(taken.mean() - levels[0, k]) < 1e-3
    distance = (x[:, :, None] - levels[:, None]).abs()
    near = pick_level(levels, places)
    torch.testing.assert_close((x - near).abs(), distance.amin(2))


def test_equation_8_stochastic_rounding():
    """``floor(x)`` with probability ``ceil(x) - x``, else ``ceil(x)``."""
    generator = torch.Generator().manual_seed(0)
    draws = stochastic_round(torch.full((20_000,), 2.3), generator)
    assert set(draws.tolist()) == {2.0, 3.0}
    assert abs((draws == 3).double().mean().item() - 0.3) < 4 * (0.3 * 0.7 / 20_000) ** 0.5


def test_equation_9_stochastic_binarisation():
    """``-1`` with probability ``1 - sigma(x)``, ``+1`` with probability ``sigma(x)``."""
    generator = torch.Generator().manual_seed(0)
    draws = stochastic_binary(torch.full((20_000,), 0.7), generator)
    share = torch.sigmoid(torch.tensor(0.7)).item()
    assert abs((draws == 1).double().mean().item() - share) < 4 * 0.5 / 20_000**0.5


@given(hnp.arrays("float32", (1, 7), elements=st.floats(-10, 10, width=16)))
def test_equation_12_the_best_scale_of_binary_weights(values):
    """``alpha, B = argmin |W - alpha B|^2`` is solved by the mean magnitude and the signs."""
    x = torch.from_numpy(values).double()
    found = fake_quantize(x, fit(x, torch.ones_like(x), parse_format("binary")))
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=7))).double()
    alphas = (signs @ x[0] / 7).clamp(min=0)
    best = (x - alphas[:, None] * signs).square().sum(1).min()
    torch.testing.assert_close((found - x).square().sum(), best, rtol=1e-6, atol=1e-9)


@given(hnp.arrays("float32", (1, 10, 2), elements=st.floats(-10, 10, width=16)))
def test_equation_13_vector_quantization_is_kmeans_on_vectors(values):
    """``min sum_i |w_i - c_j|^2``: nearest words, and words in the middle of their vectors."""
    points = torch.from_numpy(values)
    words = kmeans_vectors(points, torch.ones(1, 10), 3, rounds=200)
    places = nearest_word(points, words)
    for k in range(3):
        taken = points[places == k]
        if len(taken):
            torch.testing.assert_close(taken.mean(0), words[0, k], rtol=1e-3, atol=1e-3)
