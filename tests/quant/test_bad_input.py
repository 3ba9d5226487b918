"""Tensors and settings that quantizers meet sooner or later: what happens is defined."""

import math

import pytest
import torch

from quant.calibration import CALIBRATORS, Distribution, calibrator
from quant.errors import DataError, UsageError
from quant.formats import parse_format
from quant.method import Method
from quant.model import QuantizedModel
from quant.slices import SliceLayout
from quant.weights import weight_quantizer
from tests.quant.models import residual_net, take

RANGED = ["int2src", "int4ug3", "int8st", "int4sn2", "fp8e4m3c", "nf4c", "mxfp4g4", "pot4c"]
FITTED = [
    "binaryc",
    "ternary",
    "km2c",
    "lv2c",
    "bc2c",
    "bcg2",
    "pwl3c",
    "vq1d3",
    "pq1d3",
    "rpq2d2",
]
NAMES = ["0", "3.conv1", "3.conv2", "6"]
EMPTY = "no calibration data"


def quantized(weight, text, name="mse"):
    fmt = parse_format(text)
    layout = SliceLayout(tuple(weight.shape), fmt.granularity, fmt.group_size)
    return weight_quantizer(weight, layout, fmt, calibrator(name), name="w")(weight)


@pytest.mark.parametrize("text", [*RANGED, *FITTED])
def test_all_zero_stays_all_zero(text):
    assert torch.equal(quantized(torch.zeros(4, 7), text), torch.zeros(4, 7))


@pytest.mark.parametrize("text", [*RANGED, *FITTED])
@pytest.mark.parametrize("value", [0.5, -3.0])
def test_a_constant_stays_within_a_step(text, value):
    x = torch.full((4, 7), value)
    error = (quantized(x, text) - x).abs().max().item()
    # No number is further than half the widest gap of the coarsest grid.
    assert error <= (0.5 if text in RANGED else 1e-5) * abs(value)


@pytest.mark.parametrize("text", [*RANGED, *FITTED])
@pytest.mark.parametrize("shape", [(4, 0), (0, 4)])
def test_empty_weights_stay_empty(text, shape):
    assert quantized(torch.zeros(shape), text).shape == shape


@pytest.mark.parametrize("text", [*RANGED, *FITTED])
@pytest.mark.parametrize(("value", "kind"), [(math.nan, "NaN"), (math.inf, "infinite")])
def test_weights_that_are_not_finite_are_refused_by_name(text, value, kind):
    x = torch.ones(4, 7)
    x[1, 2] = value
    with pytest.raises(DataError, match=f"{kind} values in w"):
        quantized(x, text)


@pytest.mark.parametrize("name", sorted(CALIBRATORS))
def test_one_sample_is_enough_to_calibrate(name):
    method = Method(activation_calibrator=name)
    model = QuantizedModel(residual_net(), NAMES, method, [torch.randn(1, 1, 8, 8)])
    model.apply({n: take("int8src", "int8ut") for n in NAMES})
    assert bool(model(torch.randn(2, 1, 8, 8)).isfinite().all())


@pytest.mark.parametrize(
    "repair",
    ["gptq", "adaround", "adaquant", "bias_correction", "smooth", "brecq", "qdrop", "lapq",
     "bn_reestimate", "hessian"],
)  # fmt: skip
def test_one_sample_is_enough_for_every_repair(repair):
    method = Method(repair=(repair,))
    model = QuantizedModel(residual_net(), NAMES, method, [torch.randn(1, 1, 8, 8)])
    model.apply({n: take("int4src", "int8ut") for n in NAMES})
    assert bool(model(torch.randn(2, 1, 8, 8)).isfinite().all())


@pytest.mark.parametrize("batches", [[], [torch.zeros(0, 1, 8, 8)]])
@pytest.mark.parametrize("repair", [(), ("smooth",), ("gptq",)])
def test_no_sample_is_refused(batches, repair):
    with pytest.raises(DataError, match=EMPTY):
        QuantizedModel(residual_net(), NAMES, Method(repair=repair), batches)


@pytest.mark.parametrize("text", ["int1s", "int9", "int0u", "km9", "pot1", "bc1", "lv99"])
def test_bits_out_of_range_are_refused(text):
    with pytest.raises(UsageError, match="bits is out of range"):
        parse_format(text)


@pytest.mark.parametrize("text", ["int4g0", "int4n0"])
def test_slices_of_nothing_are_refused(text):
    with pytest.raises(UsageError, match="group size must be at least 1"):
        parse_format(text)


@pytest.mark.parametrize(("text", "coarse"), [("int4sg4", "int4sg100"), ("int4sn3", "int4sn50")])
def test_a_group_that_does_not_divide_is_padded_without_effect_on_ranges(text, coarse):
    x = torch.randn(7, 10, generator=torch.Generator().manual_seed(0))
    parts = x.split(4, 1) if "g" in text else x.split(3, 0)
    kind = "c" if "g" in text else "t"
    alone = [quantized(part.contiguous(), f"int4s{kind}") for part in parts]
    assert torch.equal(quantized(x, text), torch.cat(alone, 1 if "g" in text else 0))
    whole = quantized(x, f"int4s{kind}")
    assert torch.equal(quantized(x, coarse), whole)  # larger than the axis: one slice


def test_unsigned_data_in_a_symmetric_format_uses_half_the_codes():
    x = torch.linspace(0, 1, 64).reshape(1, 64)
    symmetric, asymmetric = (quantized(x, f"int4{s}t", "minmax") for s in ("s", "u"))
    assert len(symmetric.unique()) == 8
    assert len(asymmetric.unique()) == 16
    assert bool((symmetric >= 0).all())


@pytest.mark.parametrize("name", sorted(CALIBRATORS))
def test_ranges_of_numbers_near_the_ends_of_float32(name):
    for size in (1e-38, 1e37):
        data = Distribution.of_slices(torch.tensor([[-size, size / 2, size]]))
        low, high = calibrator(name).range(data, parse_format("int8u"))
        assert bool(torch.isfinite(high - low).all())


def test_tokens_at_run_time_only_and_not_for_weights():
    with pytest.raises(UsageError, match="append '@dynamic'"):
        parse_format("int8uk")
    with pytest.raises(UsageError, match="is dynamic"):
        quantized(torch.ones(2, 2), "int8sk@dynamic")
