import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant.affine import (
    QParams,
    check_finite,
    dequantize,
    fake_quantize,
    qparams_from_range,
    quantize,
)
from quant.errors import DataError
from quant.formats import Format, Scheme, parse_format

INT_TEXTS = [f"int{b}{s}" for b in (2, 3, 4, 8) for s in ("s", "sr", "u")]
FORMATS = st.sampled_from([parse_format(text) for text in INT_TEXTS])
ARRAYS = hnp.arrays(
    np.float32,
    hnp.array_shapes(max_dims=2, max_side=20),
    elements=st.floats(-1e3, 1e3, width=32, allow_subnormal=False),
)


def qparams_of(x, fmt):
    return qparams_from_range(x.min(), x.max(), fmt)


# Closed form.


@pytest.mark.parametrize(
    ("text", "low", "high", "scale", "zero_point"),
    [
        ("int8u", 0.0, 255.0, 1.0, 0),
        ("int8u", -1.0, 3.0, 4 / 255, 64),
        ("int4u", -3.0, 12.0, 1.0, 3),
        ("int2u", 3.0, 6.0, 2.0, 0),
        ("int2u", -6.0, -3.0, 2.0, 3),
        ("int8sr", -254.0, 10.0, 2.0, 0),
        ("int4sr", -7.0, 3.0, 1.0, 0),
        ("int2sr", -0.5, 0.25, 0.5, 0),
        ("int8s", -1.0, 255.0, 2.0, 0),
        ("int4s", -15.0, 0.0, 2.0, 0),
        ("int2s", -3.0, 1.0, 2.0, 0),
    ],
)
def test_scale_and_zero_point(text, low, high, scale, zero_point):
    got = qparams_from_range(torch.tensor(low), torch.tensor(high), parse_format(text))
    assert math.isclose(float(got.scale), scale, rel_tol=1e-6)
    assert int(got.zero_point) == zero_point
    assert got.zero_point.dtype == torch.int32


def test_halves_round_to_even():
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5])
    qparams = QParams(torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), parse_format("int4s"))
    assert quantize(x, qparams).tolist() == [-2, -2, 0, 0, 2, 2, 4]
    assert fake_quantize(x, qparams).tolist() == [-2, -2, 0, 0, 2, 2, 4]


def test_both_spellings_of_the_survey_agree():
    # Equations 2 and 3 of arXiv 2103.13630: Q = Int(r/S) - Z', r~ = S (Q + Z') with Z' = -Z.
    x = torch.linspace(-1, 3, 101)
    qparams = qparams_of(x, parse_format("int4u"))
    code = (torch.round(x * (1 / qparams.scale)) - (-qparams.zero_point)).clamp(0, 15)
    assert torch.equal(quantize(x, qparams), code.to(torch.int32))
    assert torch.equal(
        dequantize(quantize(x, qparams), qparams), qparams.scale * (code - qparams.zero_point)
    )


def test_the_full_range_uses_the_extra_code():
    x = torch.tensor([-15.0, 15.0])
    assert quantize(x, qparams_of(x, parse_format("int4s"))).tolist() == [-8, 7]
    assert quantize(x, qparams_of(x, parse_format("int4sr"))).tolist() == [-7, 7]


def test_ranges_per_slice_broadcast():
    x = torch.tensor([[1.0, -2.0], [100.0, 50.0]])
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    qparams = qparams_from_range(low, high, parse_format("int8sr"))
    rows = [fake_quantize(row, qparams_of(row, parse_format("int8sr"))) for row in x]
    assert torch.equal(fake_quantize(x, qparams), torch.stack(rows))


# Fast = slow.


@given(ARRAYS, FORMATS)
def test_fake_quantize_is_dequantize_of_quantize(array, fmt):
    x = torch.from_numpy(array)
    qparams = qparams_of(x, fmt)
    slow = dequantize(quantize(x, qparams), qparams)
    assert torch.equal(fake_quantize(x, qparams), slow)
    with torch.enable_grad():
        assert torch.equal(fake_quantize(x.clone().requires_grad_(), qparams).detach(), slow)


@given(ARRAYS, FORMATS)
def test_equals_the_fused_operator_of_torch(array, fmt):
    x = torch.from_numpy(array)
    qparams = qparams_of(x, fmt)
    fused = torch.fake_quantize_per_tensor_affine(
        x, float(qparams.scale), int(qparams.zero_point), fmt.qmin, fmt.qmax
    )
    assert torch.equal(fake_quantize(x, qparams), fused)


# Properties.


@given(ARRAYS, FORMATS)
def test_error_is_bounded_by_half_a_step(array, fmt):
    x = torch.from_numpy(array)
    qparams = qparams_of(x, fmt)
    # The zero point is rounded as well, and full range has no code for +max: half a step more.
    steps = 0.5 if fmt.scheme is Scheme.RESTRICTED else 1.0
    error = (fake_quantize(x, qparams) - x).abs().max()
    assert error <= qparams.scale * steps * (1 + 1e-4)


@given(ARRAYS, FORMATS)
def test_zero_is_exact_and_levels_are_few(array, fmt):
    x = torch.from_numpy(array)
    qparams = qparams_of(x, fmt)
    assert float(fake_quantize(torch.zeros(1), qparams)) == 0.0
    assert len(fake_quantize(x, qparams).unique()) <= 2**fmt.bits
    codes = quantize(x, qparams)
    assert int(codes.min()) >= fmt.qmin
    assert int(codes.max()) <= fmt.qmax


@given(ARRAYS, FORMATS)
def test_idempotent_and_monotone(array, fmt):
    x = torch.from_numpy(array)
    qparams = qparams_of(x, fmt)
    once = fake_quantize(x, qparams)
    assert torch.equal(fake_quantize(once, qparams), once)
    ordered = fake_quantize(x.flatten().sort().values, qparams)
    assert bool((ordered.diff() >= 0).all())


@given(ARRAYS, st.integers(2, 8))
def test_restricted_range_is_odd(array, bits):
    x = torch.from_numpy(array)
    qparams = qparams_of(x, Format("int", bits, Scheme.RESTRICTED))
    assert torch.equal(fake_quantize(-x, qparams), -fake_quantize(x, qparams))


@given(ARRAYS, FORMATS, st.integers(-8, 8))
def test_scale_equivariant(array, fmt, exponent):
    x, factor = torch.from_numpy(array), 2.0**exponent
    scaled = fake_quantize(x * factor, qparams_of(x * factor, fmt))
    original = fake_quantize(x, qparams_of(x, fmt)) * factor
    if float(qparams_of(x, fmt).scale) != 1.0:  # all-zero ranges keep scale 1
        assert torch.equal(scaled, original)


# Gradient.


@pytest.mark.parametrize("text", INT_TEXTS)
def test_gradient_is_one_inside_and_zero_outside(text):
    fmt = parse_format(text)
    qparams = qparams_from_range(torch.tensor(-1.0), torch.tensor(1.0), fmt)
    x = torch.linspace(-3, 3, 61, requires_grad=True)
    upstream = torch.arange(61.0)
    (grad,) = torch.autograd.grad(fake_quantize(x, qparams), x, upstream)
    steps = torch.round(x.detach() / qparams.scale) + qparams.zero_point
    inside = (steps >= fmt.qmin) & (steps <= fmt.qmax)
    assert torch.equal(grad, upstream * inside)
    assert bool(inside.any())
    assert not bool(inside.all())


def test_gradient_per_slice_and_second_order():
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    low, high = x.detach().amin(1, keepdim=True), x.detach().amax(1, keepdim=True)
    y = fake_quantize(x, qparams_from_range(low, high, parse_format("int4u")))
    (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    assert torch.allclose(grad, 2 * y)
    (second,) = torch.autograd.grad(grad.sum(), x)
    assert torch.equal(second, torch.full_like(x, 2.0))


def test_float_formats_are_a_round_trip_with_gradient():
    x = torch.tensor([1.0, 1.0009765625, math.pi], requires_grad=True)
    for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        qparams = qparams_of(x.detach(), parse_format(name))
        y = fake_quantize(x, qparams)
        assert torch.equal(y, x.to(dtype).to(torch.float32))
        assert torch.equal(dequantize(quantize(x, qparams), qparams), y)
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert torch.equal(grad, torch.ones(3))
    same = fake_quantize(x, qparams_of(x.detach(), parse_format("float32")))
    assert torch.equal(same, x)


# Corners.


@pytest.mark.parametrize("text", [*INT_TEXTS, "float16"])
def test_all_zero_tensor_stays_zero(text):
    x = torch.zeros(4)
    qparams = qparams_of(x, parse_format(text))
    assert float(qparams.scale) == 1.0
    assert torch.equal(fake_quantize(x, qparams), x)


@pytest.mark.parametrize("value", [0.37, -0.37, 1e-30, 3e38])
def test_constant_tensor(value):
    x = torch.full((3,), value)
    for text in ("int4sr", "int4u"):
        fmt = parse_format(text)
        assert torch.allclose(fake_quantize(x, qparams_of(x, fmt)), x, rtol=1e-6, atol=0)


@pytest.mark.parametrize("text", INT_TEXTS)
def test_ranges_below_the_normal_numbers_count_as_zero(text):
    x = torch.tensor([1e-44, -1e-44])
    qparams = qparams_of(x, parse_format(text))
    assert float(qparams.scale) == 1.0
    assert torch.equal(fake_quantize(x, qparams), torch.zeros(2))


@pytest.mark.parametrize("text", INT_TEXTS)
def test_the_widest_range_does_not_overflow(text):
    # Full range and a rounded zero point have levels up to a third beyond the largest value.
    x = torch.tensor([-2.5e38, 2.5e38])
    assert bool(torch.isfinite(fake_quantize(x, qparams_of(x, parse_format(text)))).all())


def test_empty_tensor_stays_empty():
    qparams = qparams_from_range(torch.tensor(-1.0), torch.tensor(1.0), parse_format("int8u"))
    assert fake_quantize(torch.empty(0, 3), qparams).shape == (0, 3)
    assert quantize(torch.empty(0, 3), qparams).dtype == torch.int32


def test_infinities_saturate_and_nan_is_kept():
    qparams = qparams_from_range(torch.tensor(0.0), torch.tensor(1.0), parse_format("int8u"))
    y = fake_quantize(torch.tensor([math.inf, -math.inf, math.nan, 1e30]), qparams)
    assert y[[0, 1, 3]].tolist() == [1.0, 0.0, 1.0]
    assert math.isnan(y[2])


def test_the_input_is_never_written():
    x = torch.randn(10, generator=torch.Generator().manual_seed(0))
    before, version = x.clone(), x._version
    for text in (*INT_TEXTS, "float16", "float32"):
        fake_quantize(x, qparams_of(x, parse_format(text)))
    assert torch.equal(x, before)
    assert x._version == version


@pytest.mark.parametrize(("value", "kind"), [(math.nan, "NaN"), (math.inf, "infinite")])
def test_bad_ranges_name_the_tensor(value, kind):
    with pytest.raises(DataError, match=f"{kind} values in weight of layer 'fc'"):
        qparams_from_range(
            torch.tensor(0.0),
            torch.tensor(value),
            parse_format("int8"),
            name="weight of layer 'fc'",
        )
    with pytest.raises(DataError, match="the range"):
        qparams_from_range(torch.tensor(value), torch.tensor(0.0), parse_format("int8"))
    check_finite(torch.empty(0), "nothing")
