"""Dyadic numbers: closed form, one step at most beside float rounding, and refusals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import UsageError
from quant.integer.dyadic import MULTIPLIER_BITS, dyadic


@pytest.mark.parametrize(
    ("ratio", "x", "expected"),
    [(1.0, 7, 7), (0.5, 7, 4), (0.5, -7, -3), (2.0**-20, 3 << 20, 3), (3.0, 5, 15), (0.1, 99, 10)],
)
def test_halves_round_up(ratio, x, expected):
    assert int(dyadic(ratio)(torch.tensor(x))) == expected


@given(st.floats(1e-9, 1e6), st.integers(-(2**31) + 1, 2**31 - 1))
def test_it_is_one_step_at_most_from_float_rounding(ratio, x):
    found = dyadic(ratio)
    assert 0 < int(found.multiplier) < 1 << MULTIPLIER_BITS
    assert abs(float(found.value) / ratio - 1) <= 2.0**-30
    if abs(x * ratio) < 2**30:
        assert abs(int(found(torch.tensor(x))) - round(x * ratio)) <= 1


@given(st.integers(0, 2**32 - 1))
def test_nothing_overflows_for_any_int32(seed):
    rng = np.random.default_rng(seed)
    ratios = torch.from_numpy(10.0 ** rng.uniform(-9, 0, 20))
    x = torch.from_numpy(rng.integers(-(2**31) + 1, 2**31, 20))
    found = dyadic(ratios)
    exact = [
        (int(v) * int(m) + ((1 << int(k)) >> 1)) >> int(k)
        for v, m, k in zip(x, found.multiplier, found.shift, strict=True)
    ]
    assert found(x).tolist() == exact


@pytest.mark.parametrize("ratio", [0.0, -1.0, math.nan, math.inf, 2.0**40])
def test_ratios_without_a_dyadic_number_are_refused(ratio):
    with pytest.raises(UsageError, match="a scale ratio is"):
        dyadic(ratio)
