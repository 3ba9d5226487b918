"""Binary, ternary and k-means fits against brute force and as properties."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant.affine import fake_quantize
from quant.codebook import fit
from quant.codebook.kmeans import lloyd
from quant.formats import parse_format
from quant.levels import nearest_level, pick_level

ROWS = hnp.arrays("float32", (3, 12), elements=st.floats(-10, 10, width=32))
FORMATS = ["binary", "ternary", "km2", "km4", "lv2", "bc2", "bcg3", "pwl3"]


def rounded(x, text):
    return fake_quantize(x, fit(x, torch.ones_like(x), parse_format(text)))


def error(x, text):
    return (rounded(x, text) - x).square().sum(1)


def test_binary_is_the_best_scale_and_signs():
    x = torch.randn(1, 6, generator=torch.Generator().manual_seed(0))
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=6)))
    alpha = (signs @ x[0] / 6).clamp(min=0)
    best = (x - alpha[:, None] * signs).square().sum(1).min()
    torch.testing.assert_close(error(x, "binary")[0], best)


def test_ternary_reaches_brute_force():
    x = torch.randn(1, 9, generator=torch.Generator().manual_seed(1))
    size = x.abs().sort(descending=True).values[0]
    gains = size.cumsum(0).square() / torch.arange(1, 10)  # keep the k largest
    torch.testing.assert_close(error(x, "ternary")[0], x.square().sum() - gains.max())


@given(ROWS)
def test_ternary_is_not_worse_than_all_zero_and_more_levels_help_kmeans(values):
    x = torch.from_numpy(values)
    power = x.square().sum(1)
    assert bool((error(x, "ternary") <= power * (1 + 1e-5)).all())
    assert bool((error(x, "km4") <= error(x, "km2") + 1e-3 * power + 1e-6).all())


@given(ROWS)
def test_lloyd_never_increases_the_error(values):
    x = torch.from_numpy(values)
    ones = torch.ones_like(x)
    losses = []
    for rounds in (0, 1, 2, 5, 20):
        levels = lloyd(x, ones, 4, rounds)
        near = pick_level(levels, nearest_level(x, levels))
        losses.append((near - x).double().square().sum().item())
    slack = 1e-4 * (1 + losses[0])
    assert all(later <= earlier + slack for earlier, later in itertools.pairwise(losses))


def test_weights_pull_the_levels():
    x = torch.tensor([[0.0, 1.0, 2.0, 10.0]])
    weights = torch.tensor([[1.0, 3.0, 0.0, 1.0]])
    levels = lloyd(x, weights, 2)
    assert levels[0, 0].item() == pytest.approx(0.75)
    assert levels[0, 1].item() == pytest.approx(10)


def test_as_many_levels_as_values_is_exact():
    x = torch.tensor([[3.0, -1.0, 0.5, 8.0]])
    assert torch.equal(rounded(x, "km2"), x)


@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, 1e-42])
def test_constant_slices_are_kept(text, value):
    x = torch.full((2, 5), value)
    torch.testing.assert_close(rounded(x, text), x, rtol=1e-6, atol=1e-40)


@pytest.mark.parametrize("text", FORMATS)
def test_empty_slices_stay_empty(text):
    assert rounded(torch.zeros(2, 0), text).shape == (2, 0)


@pytest.mark.parametrize("text", FORMATS)
def test_padding_takes_no_part(text):
    x = torch.tensor([[1.0, -2.0, 3.0, 4.0]])
    padded = torch.nn.functional.pad(x, (0, 3))
    mask = torch.nn.functional.pad(torch.ones_like(x), (0, 3))
    qparams = fit(padded, mask, parse_format(text))
    torch.testing.assert_close(fake_quantize(padded, qparams)[:, :4], rounded(x, text))
