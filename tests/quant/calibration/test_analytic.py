"""Calibrators with a closed form: analytic clipping, moving average, weighted entropy."""

import math

import pytest
import torch

from quant.calibration import (
    AciqGaussian,
    AciqLaplace,
    Distribution,
    MovingAverage,
    StreamingHistogram,
    WeightedEntropy,
)
from quant.calibration.aciq import clip_ratio
from quant.calibration.base import squared_error
from quant.calibration.weighted_entropy import weighted_entropy
from quant.formats import parse_format

FMT = parse_format("int4s")


@pytest.mark.parametrize(("bits", "ratio"), [(2, 2.83), (3, 3.90), (4, 5.03), (5, 6.20)])
def test_laplace_ratios_are_those_of_the_paper(bits, ratio):
    assert clip_ratio(bits, False) == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize("gaussian", [False, True])
def test_ratios_grow_with_the_width(gaussian):
    ratios = [clip_ratio(bits, gaussian) for bits in range(2, 9)]
    assert ratios == sorted(set(ratios))


@pytest.mark.parametrize("gaussian", [False, True])
def test_threshold_is_close_to_the_best_of_a_dense_grid(gaussian):
    uniform = torch.rand(1, 50_000, generator=torch.Generator().manual_seed(0)) * 0.9998 + 1e-4
    centred = uniform - 0.5
    laplace = -centred.sign() * (1 - 2 * centred.abs()).log()
    x = math.sqrt(2) * torch.erfinv(2 * uniform - 1) if gaussian else laplace
    data = Distribution.of_slices(x)
    chosen = squared_error(
        data, *(AciqGaussian if gaussian else AciqLaplace)().range(data, FMT), FMT
    )
    grid = torch.linspace(0.05, 1, 60) * data.peak
    best = min(squared_error(data, -t[None], t[None], FMT).item() for t in grid)
    assert chosen.item() <= 1.1 * best


def test_one_sided_data_clips_one_end_only():
    x = torch.randn(1, 5000, generator=torch.Generator().manual_seed(0)).abs()
    data = Distribution.of_slices(x)
    low, high = AciqLaplace().range(data, parse_format("int4u"))
    assert low.item() == 0
    assert high.item() == pytest.approx(
        min(x.mean().item() * clip_ratio(5, False), x.max().item()), rel=1e-5
    )


def test_moving_average_in_closed_form():
    histogram = StreamingHistogram()
    for batch in ([-1.0, 2.0], [-3.0, 12.0], [], [0.5, 1.0]):
        histogram.update(torch.tensor(batch))
    low, high = MovingAverage().range(histogram.distribution(), FMT)
    assert high.item() == pytest.approx(0.9 * (0.9 * 2 + 0.1 * 12) + 0.1 * 1)
    assert low.item() == pytest.approx(0.9 * (0.9 * -1 + 0.1 * -3))


def test_moving_average_of_a_weight_is_min_max():
    data = Distribution.of_slices(torch.tensor([[-1.0, 4.0]]))
    assert MovingAverage().range(data, FMT) == (data.low, data.high)


def test_weighted_entropy_counts_squares():
    x = torch.tensor([[1.0, -1.0, 2.0]])
    data = Distribution.of_slices(x)
    found = weighted_entropy(data, data.low, data.peak, parse_format("int8sr"))
    share = torch.tensor([1 / 6, 1 / 6, 4 / 6])
    assert found.item() == pytest.approx(-(share * share.log()).sum().item(), rel=1e-6)


def test_weighted_entropy_is_never_below_that_of_the_full_range():
    x = torch.randn(3, 200, generator=torch.Generator().manual_seed(0)) ** 3
    data = Distribution.of_slices(x)
    full = weighted_entropy(data, data.low, data.high, FMT)
    chosen = weighted_entropy(data, *WeightedEntropy().range(data, FMT), FMT)
    assert bool((chosen >= full).all())
    assert bool((chosen > full).any())
