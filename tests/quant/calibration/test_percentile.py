from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant.calibration import Distribution, MinMax, Percentile
from quant.calibration.percentile import quantile
from quant.errors import UsageError
from quant.formats import parse_format

FORMATS = st.sampled_from([parse_format(f"int4{s}") for s in ("s", "sr", "u")])
ROWS = hnp.arrays(np.float32, (2, 9), elements=st.floats(-10, 10, width=16))


def test_closed_form():
    x = torch.arange(-10.0, 91.0)[None]  # 101 values: percentile p of x is p - 10
    data = Distribution.of_slices(x)
    low, high = Percentile(95).range(data, parse_format("int8u"))
    assert low.item() == pytest.approx(-5)
    assert high.item() == pytest.approx(85)
    low, high = Percentile(90).range(Distribution.of_slices(x.abs()), parse_format("int8sr"))
    assert (low.item(), high.item()) == (0.0, pytest.approx(80))


def test_symmetric_formats_cut_the_magnitudes():
    x = torch.tensor([[-1.0, 2.0, -3.0, 4.0, -100.0]])
    low, high = Percentile(75).range(Distribution.of_slices(x), parse_format("int8s"))
    assert (low.item(), high.item()) == (-4.0, 4.0)


@given(ROWS, FORMATS)
def test_hundred_is_minmax(array, fmt):
    data = Distribution.of_slices(torch.from_numpy(array))
    exact, other = MinMax().range(data, fmt), Percentile(100).range(data, fmt)
    if fmt.scheme == "u":
        assert torch.equal(torch.stack(exact), torch.stack(other))
    # A symmetric threshold is the peak either way.
    peak = torch.maximum(-other[0], other[1])
    assert torch.equal(peak, data.peak)


@given(ROWS, st.floats(0, 1))
def test_quantile_is_that_of_torch(array, share):
    x = torch.from_numpy(array)
    got = quantile(x, torch.ones(1, 1), share)
    assert torch.allclose(got, x.double().quantile(share, dim=1).float(), atol=1e-4)


@given(ROWS, hnp.arrays(np.int64, (2, 9), elements=st.integers(0, 4)), st.floats(0, 1))
def test_counts_repeat_the_points(array, counts, share):
    got = quantile(torch.from_numpy(array), torch.from_numpy(counts), share)
    for row in range(2):
        expanded = np.repeat(array[row].astype(np.float64), counts[row])
        expected = np.quantile(expanded, share) if len(expanded) else 0.0
        assert got[row].item() == pytest.approx(expected, abs=1e-4)


@given(ROWS, FORMATS)
def test_a_higher_percentile_never_covers_less(array, fmt):
    data = Distribution.of_slices(torch.from_numpy(array))
    ranges = [Percentile(p).range(data, fmt) for p in (60, 80, 99, 100)]
    for (low, high), (wider_low, wider_high) in pairwise(ranges):
        assert bool((wider_low <= low).all())
        assert bool((wider_high >= high).all())


@pytest.mark.parametrize("percentile", [50, 0, 100.1, float("nan")])
def test_out_of_range_is_refused(percentile):
    with pytest.raises(UsageError, match=f"percentile {percentile} is out of range") as caught:
        Percentile(percentile)
    assert caught.value.expected == "50 < percentile <= 100"
