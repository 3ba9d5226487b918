"""Tables of levels in closed form, and rounding to them as a property."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant.affine import dequantize, fake_quantize, qparams_from_range, quantize
from quant.errors import UsageError
from quant.formats import parse_format
from quant.levels import level_table, mx_scale, nearest_level

FIXED = ["fp8e4m3", "fp8e5m2", "fp4", "nf4", "mxfp8", "mxfp6", "mxfp4", "pot4", "apot4", "apot5"]
VALUES = hnp.arrays("float32", (3, 17), elements=st.floats(-1e3, 1e3, width=32))


def fitted(x, text):
    fmt = parse_format(text)
    peak = x.abs().amax(dim=1, keepdim=True)
    return qparams_from_range(-peak, peak, fmt)


def table(text):
    return level_table(parse_format(text)).tolist()


def test_small_floats_in_closed_form():
    halves = [0.5, 1, 1.5, 2, 3, 4, 6]
    assert table("fp4") == [*(-v for v in reversed(halves)), 0, *halves]
    assert len(table("fp8e4m3")) == 253  # 256 codes less two NaN and the second zero
    assert len(table("mxfp6")) == 63


@pytest.mark.parametrize(
    ("text", "dtype"), [("fp8e4m3", torch.float8_e4m3fn), ("fp8e5m2", torch.float8_e5m2)]
)
def test_fp8_tables_are_the_finite_values_of_torch(text, dtype):
    every = torch.arange(256, dtype=torch.uint8).view(dtype).double()
    assert table(text) == every[every.isfinite()].unique().tolist()


def test_powers_of_two_and_their_sums():
    assert table("pot3") == [-1, -0.5, -0.25, 0, 0.25, 0.5, 1]
    expected = [0, 0.0625, 0.25, 0.5, 0.5625, 0.75, 1, 1.5]
    assert [v for v in table("apot4") if v >= 0] == expected


@pytest.mark.parametrize(
    "text", [*FIXED, *(f"{k}{b}" for k in ("pot", "apot") for b in (2, 6, 8))]
)
def test_tables_ascend_hold_zero_and_fit_their_bits(text):
    levels = table(text)
    assert levels == sorted(set(levels))
    assert 0.0 in levels
    assert len(levels) <= 2 ** parse_format(text).bits


@pytest.mark.parametrize("text", FIXED)
@given(values=VALUES)
def test_rounding_is_to_the_nearest_level(text, values):
    x = torch.from_numpy(values)
    qparams = fitted(x, text)
    result = fake_quantize(x, qparams)
    grid = (qparams.table * qparams.scale)[:, None]
    best = (x[..., None] - grid).abs().amin(-1)
    torch.testing.assert_close((x - result).abs(), best, rtol=1e-5, atol=1e-5)
    assert torch.equal(dequantize(quantize(x, qparams), qparams), result)
    torch.testing.assert_close(fake_quantize(result, qparams), result)


@given(values=VALUES)
def test_powers_of_two_bound_the_relative_error(values):
    x = torch.from_numpy(values)
    qparams = fitted(x, "pot8")
    large = x.abs() > qparams.scale * 2.0**-100
    error = (fake_quantize(x, qparams) - x).abs()
    assert bool((error[large] <= x.abs()[large] * (2**0.5 - 1)).all())


@given(values=VALUES)
def test_block_scales_are_powers_of_two(values):
    peak = torch.from_numpy(values).abs().amax(dim=1)
    peak = torch.where(peak > 1e-30, peak, torch.zeros_like(peak))
    scale = mx_scale(peak, parse_format("mxfp4"))
    mantissa = torch.frexp(scale[scale > 0]).mantissa
    assert bool((mantissa == 0.5).all())
    assert bool(((peak / scale)[scale > 0] < 8).all())  # less than a factor two above 6 saturates
    assert bool(((peak / scale)[scale > 0] >= 4).all())


@pytest.mark.parametrize("text", FIXED)
def test_hard_inputs_are_defined(text):
    zeros = torch.zeros(2, 3)
    assert torch.equal(fake_quantize(zeros, fitted(zeros, text)), zeros)
    x = torch.tensor([[1.0, float("nan"), float("inf"), -float("inf")]])
    result = fake_quantize(
        x, qparams_from_range(-torch.ones(1, 1), torch.ones(1, 1), parse_format(text))
    )
    assert result[0, 1].isnan()
    assert bool(result[0, [0, 2, 3]].isfinite().all())


def test_gradient_passes_inside_and_stops_outside():
    x = torch.tensor([0.3, -0.9, 5.0, -5.0], requires_grad=True)
    qparams = qparams_from_range(torch.tensor(-1.0), torch.tensor(1.0), parse_format("fp4"))
    fake_quantize(x, qparams).sum().backward()
    assert x.grad.tolist() == [1, 1, 0, 0]


def test_a_table_per_slice_serves_its_slice():
    levels = torch.tensor([[0.0, 1.0], [0.0, 10.0]])
    assert nearest_level(torch.tensor([[0.6], [0.6]]), levels).tolist() == [[1], [0]]


@pytest.mark.parametrize("text", [*FIXED, "mxfp4g16", "km4c", "binaryc", "ternaryg8", "nf4g64"])
def test_text_form_round_trips(text):
    fmt = parse_format(text)
    assert parse_format(str(fmt)) == fmt


def test_block_formats_have_groups_only():
    assert parse_format("mxfp8").group_size == 32
    with pytest.raises(UsageError, match="within groups only"):
        parse_format("mxfp8c")


@pytest.mark.parametrize(("text", "match"), [("pot9", "out of range"), ("km1", "out of range")])
def test_bits_out_of_range(text, match):
    with pytest.raises(UsageError, match=match):
        parse_format(text)


def test_a_misspelt_name_gets_its_nearest_match():
    with pytest.raises(UsageError) as caught:
        parse_format("fp8e4m2")
    assert "fp8e" in caught.value.fix
