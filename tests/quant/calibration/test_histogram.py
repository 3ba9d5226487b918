import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.calibration import Percentile, StreamingHistogram
from quant.errors import DataError
from quant.formats import parse_format

VALUES = st.lists(st.floats(-1e6, 1e6, width=32, allow_subnormal=False), min_size=1, max_size=40)


def streamed(*batches):
    histogram = StreamingHistogram("x")
    for batch in batches:
        histogram.update(torch.as_tensor(batch, dtype=torch.float32))
    return histogram


def same(first, second):
    pairs = (
        (first.values, second.values),
        (first.counts, second.counts),
        (first.low, second.low),
        (first.high, second.high),
    )
    return all(torch.equal(a, b) for a, b in pairs)


def test_closed_form():
    data = streamed([0.0, 1.0, 1.0, 3.0]).distribution()
    # The peak 3 lies below 4 = 2048 bins, so a bin is 2^-9 wide; zero and extremes are exact.
    assert data.values.tolist() == [[0.0, 1.0 + 2.0**-10, 3.0]]
    assert data.counts.tolist() == [[1.0, 2.0, 1.0]]
    assert (data.low.tolist(), data.high.tolist()) == ([0.0], [3.0])


@given(VALUES, VALUES, VALUES)
def test_order_and_batching_do_not_matter(a, b, c):
    whole = streamed(a + b + c).distribution()
    assert same(whole, streamed(a, b, c).distribution())
    assert same(whole, streamed(c, a, b).distribution())
    assert same(whole, streamed(list(reversed(c)), b + a).distribution())


@given(VALUES)
def test_every_value_is_within_a_bin_of_its_point(values):
    data = streamed(values).distribution()
    peak = float(np.abs(np.float32(values)).max())
    expanded = np.repeat(data.values[0].numpy(), data.counts[0].long().numpy())
    exact = np.sort(np.float32(values).astype(np.float64))
    assert len(expanded) == len(exact)
    assert np.abs(np.sort(expanded) - exact).max() <= peak / 1024
    assert expanded.min() == exact[0]
    assert expanded.max() == exact[-1]


@given(VALUES, st.integers(-20, 20))
def test_powers_of_two_scale_it_exactly(values, exponent):
    factor = 2.0**exponent
    small = streamed(values).distribution()
    large = streamed(np.float32(values) * np.float32(factor)).distribution()
    if float(small.high - small.low) > 1e-20:
        assert torch.equal(large.values, small.values * factor)
        assert torch.equal(large.counts, small.counts)


def test_range_always_holds_zero():
    assert streamed([2.0, 5.0]).distribution().low.tolist() == [0.0]
    assert streamed([-2.0, -5.0]).distribution().high.tolist() == [0.0]


def test_growth_over_many_magnitudes_keeps_the_count():
    histogram = StreamingHistogram()
    for exponent in range(-40, 38):
        histogram.update(torch.tensor([10.0**exponent, -(10.0**exponent)]))
    data = histogram.distribution()
    assert float(data.counts.sum()) == histogram.count == 156
    assert (histogram.low, histogram.high) == (-histogram.high, pytest.approx(1e37))


def test_zeros_and_nothing():
    zeros = streamed([0.0, 0.0], []).distribution()
    assert zeros.values.tolist() == [[0.0]]
    assert zeros.counts.tolist() == [[2.0]]
    nothing = StreamingHistogram().distribution()
    assert nothing.counts.tolist() == [[0.0]]
    assert (nothing.low.tolist(), nothing.high.tolist()) == ([0.0], [0.0])


@pytest.mark.parametrize(("value", "kind"), [(math.nan, "NaN"), (math.inf, "infinite")])
def test_bad_values_are_refused_and_change_nothing(value, kind):
    histogram = streamed([1.0])
    with pytest.raises(DataError, match=f"{kind} values in x"):
        histogram.update(torch.tensor([2.0, value]))
    assert (histogram.count, histogram.high) == (1, 1.0)


@pytest.mark.parametrize("share", [90.0, 99.0, 99.9])
def test_percentiles_agree_with_the_exact_ones_to_a_bin(share):
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    histogram = streamed(*x.split(3000))
    low, high = Percentile(share).range(histogram.distribution(), parse_format("int8u"))
    exact = np.quantile(x.numpy(), [1 - share / 100, share / 100])
    width = float(x.abs().max()) / 1024
    assert float(low) == pytest.approx(exact[0], abs=width)
    assert float(high) == pytest.approx(exact[1], abs=width)


def test_half_precision_batches_are_counted_as_their_values():
    x = torch.linspace(-3, 3, 50)
    assert same(streamed(x.half().float()).distribution(), _half(x).distribution())


def _half(x):
    histogram = StreamingHistogram()
    histogram.update(x.half())
    return histogram


def test_zeros_are_told_from_small_values():
    data = streamed([-1.0, 0.0, 0.0, 2.0**-14, 1.0]).distribution()
    assert data.values.tolist() == [[0.0, -1.0, 2.0**-11, 1.0]]
    assert data.counts.tolist() == [[2.0, 1.0, 1.0, 1.0]]


def test_counts_widen_before_they_overflow(monkeypatch):
    monkeypatch.setattr("quant.calibration.histogram._NARROW", 10)
    narrow, wide = StreamingHistogram(), StreamingHistogram()
    x = torch.linspace(-1, 1, 8)
    narrow.update(x)
    assert narrow._bins.dtype is torch.int32
    for part in (x, x):
        wide.update(part)
    assert wide._bins.dtype is torch.int64
    doubled = wide.distribution()
    assert torch.equal(doubled.counts, 2 * narrow.distribution().counts)
    assert torch.equal(doubled.values, narrow.distribution().values)
