import math

import numpy as np
import pytest
import torch

from quant.calibration import Distribution, Entropy, StreamingHistogram
from quant.errors import UsageError
from quant.formats import parse_format

FLOOR = 1e-6


def reference_divergence(histogram, threshold_bins, levels):
    """The published algorithm with loops: one-sided histogram, unsigned codes."""
    p = histogram[:threshold_bins].astype(float)
    kept = p.copy()
    p[-1] += histogram[threshold_bins:].sum()
    scale = threshold_bins / (levels - 1)
    codes = [min(round((i + 0.5) / scale), levels - 1) for i in range(threshold_bins)]
    q = np.zeros(threshold_bins)
    for level in range(levels):
        members = [i for i in range(threshold_bins) if codes[i] == level and kept[i] > 0]
        for i in members:
            q[i] = sum(kept[j] for j in members) / len(members)
    p, q = p / p.sum(), q / q.sum()
    return sum(a * math.log(a / max(b, FLOOR)) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_equals_the_published_loop(bits):
    rng = np.random.default_rng(bits)
    x = np.abs(rng.standard_normal(4000)).astype(np.float32)
    bins = 64
    histogram, _ = np.histogram(x, bins=bins, range=(0.0, float(x.max())))
    divergences = [reference_divergence(histogram, t, 2**bits) for t in range(bins, 0, -1)]
    expected = (bins - int(np.argmin(divergences))) / bins * float(x.max())
    data = Distribution.of_slices(torch.from_numpy(x)[None])
    low, high = Entropy(candidates=bins, bins=bins).range(data, parse_format(f"int{bits}u"))
    assert float(low) == 0.0
    assert float(high) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("text", ["int8u", "int8sr", "int4s"])
def test_lonely_outliers_are_clipped(text):
    x = torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0))
    x[0, 0] = 60.0
    low, high = Entropy().range(Distribution.of_slices(x), parse_format(text))
    assert float(torch.maximum(-low, high)) < 30


def test_evenly_spread_data_keeps_its_range():
    x = torch.linspace(0, 1, 50_000)[None]
    _, high = Entropy().range(Distribution.of_slices(x), parse_format("int8u"))
    assert float(high) > 0.95


def test_streamed_histograms_are_accepted():
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(0)).relu()
    histogram = StreamingHistogram()
    histogram.update(x)
    low, high = Entropy().range(histogram.distribution(), parse_format("int8u"))
    assert float(low) == 0.0
    assert 0.5 * float(x.max()) < float(high) <= float(x.max())


@pytest.mark.parametrize(("candidates", "bins"), [(1, 64), (10, 8)])
def test_too_small_a_search_is_refused(candidates, bins):
    with pytest.raises(UsageError, match="are not a search"):
        Entropy(candidates, bins)
