"""Equations 2 to 5 of Gholami et al., arXiv 2103.13630, as the survey writes them, and its
non-uniform mapping of intervals to levels.
"""

import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant.affine import dequantize, fake_quantize, qparams_from_range, quantize
from quant.formats import parse_format
from quant.levels import level_table

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
