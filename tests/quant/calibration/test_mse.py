import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant.affine import fake_quantize, qparams_from_range
from quant.calibration import Distribution, MeanSquaredError, MinMax, StreamingHistogram
from quant.calibration.base import squared_error
from quant.errors import UsageError
from quant.formats import Granularity, parse_format
from quant.slices import SliceLayout

TEXTS = [f"int{b}{s}" for b in (2, 3, 4, 8) for s in ("s", "sr", "u")]
FORMATS = st.sampled_from([parse_format(text) for text in TEXTS])
ROWS = hnp.arrays(np.float32, (2, 15), elements=st.floats(-10, 10, width=16))
FAST = settings(max_examples=40, deadline=None)


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def error_of(x, calibrator, fmt):
    data = Distribution.of_slices(x)
    return squared_error(data, *calibrator.range(data, fmt), fmt)


@FAST
@given(ROWS, FORMATS)
def test_never_worse_than_minmax(array, fmt):
    x = torch.from_numpy(array)
    assert bool((error_of(x, MeanSquaredError(), fmt) <= error_of(x, MinMax(), fmt)).all())


@pytest.mark.parametrize("text", ["int2sr", "int4sr", "int4s"])
def test_symmetric_search_equals_a_loop_over_thresholds(text):
    fmt, x = parse_format(text), gaussian(3, 200)
    low, high = MeanSquaredError(50).range(Distribution.of_slices(x), fmt)
    threshold = torch.maximum(-low, high)
    for row, got in zip(x, threshold, strict=True):
        peak = row.abs().max()
        candidates = [peak * (step / 50) for step in range(50, 0, -1)]
        errors = []
        for t in candidates:
            qparams = qparams_from_range(-t, t, fmt)
            errors.append(float((fake_quantize(row, qparams) - row).square().sum()))
        assert float(got) == pytest.approx(float(candidates[int(np.argmin(errors))]))


@pytest.mark.parametrize("text", TEXTS)
def test_finer_granularity_never_hurts(text):
    weight, fmt = gaussian(8, 32) * torch.logspace(-1, 1, 8)[:, None], parse_format(text)
    errors = []
    for granularity in (Granularity.TENSOR, Granularity.CHANNEL, Granularity.GROUP):
        slices = SliceLayout(tuple(weight.shape), granularity, 8).slice(weight)
        errors.append(float(error_of(slices, MeanSquaredError(), fmt).sum()))
    assert errors == sorted(errors, reverse=True)


def test_equal_channels_need_no_channel_scales():
    row = gaussian(1, 40)
    weight, fmt = row.expand(6, 40), parse_format("int3sr")
    whole = error_of(weight.reshape(1, -1), MeanSquaredError(), fmt)
    assert float(whole) == pytest.approx(float(error_of(weight, MeanSquaredError(), fmt).sum()))


def test_threshold_of_a_normal_distribution():
    # Three levels -t, 0, t: the optimum solves t = E[|x| given |x| > t/2], so t = 1.224.
    data = Distribution.of_slices(gaussian(1, 50_000))
    low, high = MeanSquaredError(200).range(data, parse_format("int2sr"))
    assert float(torch.maximum(-low, high)) == pytest.approx(1.224, abs=0.05)


def test_fewer_bits_clip_more():
    data = Distribution.of_slices(gaussian(1, 20_000))
    thresholds = []
    for bits in (2, 3, 4, 6, 8):
        low, high = MeanSquaredError().range(data, parse_format(f"int{bits}sr"))
        thresholds.append(float(torch.maximum(-low, high)))
    assert thresholds == sorted(thresholds)
    assert thresholds[-1] > 2 * thresholds[0]


@pytest.mark.parametrize("text", ["int3u", "int4sr", "int8u"])
@pytest.mark.parametrize("relu", [True, False])
def test_histogram_and_elements_lead_to_the_same_error(text, relu):
    fmt, x = parse_format(text), gaussian(1, 20_000)
    x = x.relu() if relu else x
    histogram = StreamingHistogram()
    histogram.update(x)
    low, high = MeanSquaredError().range(histogram.distribution(), fmt)
    streamed = squared_error(Distribution.of_slices(x), low.float(), high.float(), fmt)
    assert float(streamed) <= float(error_of(x, MeanSquaredError(), fmt)) * 1.01


def test_asymmetric_search_moves_the_ends_independently():
    x = torch.cat([gaussian(1, 2000).abs(), torch.tensor([[-30.0]])], dim=1)
    low, high = MeanSquaredError().range(Distribution.of_slices(x), parse_format("int2u"))
    assert float(low) > -15
    assert float(high) > 0.3 * float(x.max())


def test_one_candidate_is_refused():
    with pytest.raises(UsageError, match="1 candidates are not a search"):
        MeanSquaredError(1)
