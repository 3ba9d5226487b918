"""Piecewise linear levels: the uniform grid is one of them, the fit is never worse."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant.affine import fake_quantize, qparams_from_range
from quant.codebook import fit
from quant.codebook.piecewise import piecewise_levels, uniform_break
from quant.formats import parse_format

ROWS = hnp.arrays("float32", (2, 12), elements=st.floats(-10, 10, width=16))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_one_breakpoint_gives_the_restricted_uniform_grid(bits):
    peak = torch.tensor([[1.0]])
    levels = piecewise_levels(peak, uniform_break(bits) * peak, bits)
    steps = 2 ** (bits - 1) - 1
    torch.testing.assert_close(levels[0], torch.arange(-steps, steps + 1) / steps)


def test_closed_form_of_three_bits():
    levels = piecewise_levels(torch.tensor([[8.0]]), torch.tensor([[2.0]]), 3)
    assert levels.tolist() == [[-8.0, -5.0, -2.0, 0.0, 2.0, 5.0, 8.0]]


@settings(max_examples=20, deadline=None)
@given(ROWS, st.sampled_from([2, 3, 4]))
def test_never_worse_than_the_uniform_grid_with_the_same_codes(values, bits):
    x = torch.from_numpy(values)
    found = fake_quantize(x, fit(x, torch.ones_like(x), parse_format(f"pwl{bits}c")))
    peak = x.abs().amax(1, keepdim=True)
    grid = fake_quantize(x, qparams_from_range(-peak, peak, parse_format(f"int{bits}src")))
    errors = [(y - x).double().square().sum(1) for y in (found, grid)]
    assert bool((errors[0] <= errors[1] * (1 + 1e-4) + 1e-6).all())


def test_heavy_tails_gain():
    x = torch.distributions.Laplace(0.0, 1.0)
    torch.manual_seed(0)
    values = x.sample((1, 2000))
    piecewise = fake_quantize(values, fit(values, values * 0 + 1, parse_format("pwl4c")))
    peak = values.abs().max().reshape(1, 1)
    grid = fake_quantize(values, qparams_from_range(-peak, peak, parse_format("int4src")))
    assert (piecewise - values).square().sum() < 0.5 * (grid - values).square().sum()
