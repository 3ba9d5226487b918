"""Rounding by chance: unbiased, seeded, on the grid."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.affine import fake_quantize, qparams_from_range
from quant.codebook import fit
from quant.formats import parse_format
from quant.stochastic import stochastic_binary, stochastic_quantize, stochastic_round

DRAWS = 4000


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@given(st.floats(-5, 5, width=32), st.integers(0, 2**31))
def test_rounding_takes_one_of_the_two_neighbours(value, seed):
    x = torch.tensor([value])
    found = stochastic_round(x, seeded(seed)).item()
    assert found in (math.floor(value), math.floor(value) + 1)
    assert abs(found - value) < 1


@given(st.integers(-1000, 1000))
def test_whole_numbers_stay(value):
    assert stochastic_round(torch.full((20,), float(value)), seeded()).unique().item() == value


@pytest.mark.parametrize("value", [0.1, 0.5, -1.75, 3.25])
def test_the_mean_is_the_number_and_the_variance_that_of_a_coin(value):
    draws = stochastic_round(torch.full((DRAWS,), value).double(), seeded())
    share = value - math.floor(value)
    error = math.sqrt(share * (1 - share) / DRAWS)
    assert abs(draws.mean().item() - value) < 4 * error
    assert draws.var().item() == pytest.approx(share * (1 - share), rel=0.1)


@pytest.mark.parametrize("value", [-2.0, -0.3, 0.0, 0.8])
def test_binarisation_follows_its_sigmoid(value):
    x = torch.full((DRAWS,), value).double()
    for hard, mean in ((False, 2 / (1 + math.exp(-value)) - 1), (True, max(-1, min(1, value)))):
        draws = stochastic_binary(x, seeded(), hard=hard)
        assert set(draws.unique().tolist()) <= {-1.0, 1.0}
        assert abs(draws.mean().item() - mean) <= 4 * math.sqrt((1 - mean**2) / DRAWS) + 1e-12


def test_equal_seeds_give_equal_draws():
    x = torch.randn(50, generator=seeded(3))
    assert torch.equal(stochastic_round(x, seeded(1)), stochastic_round(x, seeded(1)))
    assert not torch.equal(stochastic_round(x, seeded(1)), stochastic_round(x, seeded(2)))


@pytest.mark.parametrize("text", ["int3src", "int3uc", "fp4c", "km2c", "bc2c"])
def test_quantized_values_are_on_the_grid_and_right_on_average(text):
    fmt = parse_format(text)
    x = torch.randn(2, 8, generator=seeded(5)).double()
    if fmt.is_fitted:
        q = fit(x, torch.ones_like(x), fmt)
        low, high = q.levels[:, :1], q.levels[:, -1:]
    else:
        low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
        q = qparams_from_range(low, high, fmt)
        reach = torch.maximum(-low, high)
        low, high = (low, high) if text == "int3uc" else (-reach, reach)
    draws = torch.stack([stochastic_quantize(x, q, seeded(s)) for s in range(400)])
    for draw in draws[:3]:
        torch.testing.assert_close(fake_quantize(draw, q), draw)
    spread = draws.std(0) / 400**0.5
    expected = x.clamp(low, high)
    # A zero point is rounded once more, which moves the ends by up to half a step. A value next
    # to a level may never leave it in 400 draws, and then shows no spread.
    slack = q.scale if text == "int3uc" else 5 / 400 * (high - low) / 2
    assert bool(((draws.mean(0) - expected).abs() <= 4.5 * spread + slack).all())
