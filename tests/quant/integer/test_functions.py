"""Integer functions against the real ones they stand for, with the errors their paper states."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from quant.integer.convert import integers_only
from quant.integer.functions import (
    EXP_BITS,
    GELU_BITS,
    SHARE_BITS,
    divided,
    iexp,
    igelu,
    ilayer_norm,
    isoftmax,
    isqrt,
    mean,
)


@given(st.lists(st.integers(0, 2**61), min_size=1, max_size=20))
def test_the_square_root_is_exact(values):
    assert isqrt(torch.tensor(values)).tolist() == [math.isqrt(value) for value in values]


def test_small_square_roots():
    n = torch.arange(5000)
    assert torch.equal(isqrt(n), torch.tensor([math.isqrt(int(v)) for v in n]))


def test_the_exponential_is_within_a_hundredth():
    step = 2.0**-EXP_BITS
    codes = -torch.arange(0, int(12 / step), 37)
    found, unit = iexp(codes, step)
    real = torch.exp(codes * step)
    assert ((found * unit - real).abs() <= 0.004 * real + unit).all()


@pytest.mark.parametrize("scale", [0.1, 1.0, 8.0])
def test_softmax_rows_sum_to_one_and_lie_near_the_real_ones(scale):
    torch.manual_seed(0)
    x = torch.round(scale * torch.randn(50, 33) * 2**EXP_BITS).long()
    found, unit = isoftmax(x, 2.0**-EXP_BITS)
    total = found.sum(-1)
    # Every share is rounded down, by less than one step each.
    assert ((total <= 1 << SHARE_BITS) & (total > (1 << SHARE_BITS) - 33)).all()
    assert (found * unit - F.softmax(x * 2.0**-EXP_BITS, -1)).abs().max() < 5e-3
    assert (found >= 0).all()


def test_gelu_is_within_the_error_of_its_polynomial():
    x = torch.arange(-8 << GELU_BITS, 8 << GELU_BITS)
    found, unit = igelu(x, 2.0**-GELU_BITS)
    real = x * 2.0**-GELU_BITS
    assert (found * unit - F.gelu(real)).abs().max() < 0.019
    assert (found.abs() < 2**31).all(), "the product stays an int32"


@pytest.mark.parametrize("spread", [1e-3, 1.0, 50.0])
def test_layer_norm_is_that_of_floats(spread):
    torch.manual_seed(1)
    step = spread * 2.0**-18
    x = torch.round((spread * torch.randn(40, 64) + 3 * spread) / step).long()
    found, unit = ilayer_norm(x, step, 1e-5)
    real = F.layer_norm(x.double() * step, (64,), eps=1e-5)
    assert (found * unit - real).abs().max() < 2e-4


def test_a_constant_row_has_no_spread():
    found, _ = ilayer_norm(torch.full((2, 8), 77), 1.0, 0.0)
    assert found.tolist() == [[0] * 8] * 2


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=30))
def test_means_are_rounded_to_the_nearest(values):
    found = int(mean(torch.tensor([values]), (1,)))
    assert abs(found - sum(values) / len(values)) <= 0.5


def test_nothing_here_touches_a_float():
    x = torch.arange(-40, 40).reshape(8, 10)
    with integers_only():
        isqrt(x.abs())
        isoftmax(x, 2.0**-4)
        igelu(x, 2.0**-4)
        ilayer_norm(x, 2.0**-4, 1e-5)
        mean(x, (0, 1))
        divided(x, 3)
    with pytest.raises(AssertionError, match="computes on torch"), integers_only():
        torch.ones(2) + 1
