import torch

from quant.calibration import Distribution
from quant.calibration.search import search_range
from quant.formats import parse_format


def data(low, high):
    return Distribution.of_slices(torch.tensor([[low, high]]))


def test_each_end_finds_its_own_optimum():
    def loss(low, high):
        return (low + 2).abs() + (high - 7).abs()

    low, high = search_range(data(-10.0, 10.0), parse_format("int8u"), loss, 100)
    assert torch.allclose(torch.stack([low, high]), torch.tensor([[-2.0], [7.0]]), atol=0.1)


def test_a_symmetric_format_has_one_threshold_cut_to_the_data():
    def loss(low, high):
        return (torch.maximum(-low, high) - 4).abs()

    low, high = search_range(data(-1.0, 10.0), parse_format("int8s"), loss, 10)
    assert (low.item(), high.item()) == (-1.0, 4.0)


def test_slices_find_their_optima_apart():
    two = Distribution.of_slices(torch.tensor([[0.0, 10.0], [0.0, 10.0]]))
    target = torch.tensor([3.0, 8.0])
    _, high = search_range(two, parse_format("int8u"), lambda _, h: (h - target).abs(), 10)
    assert torch.allclose(high, target)


def test_of_equal_losses_the_widest_range_wins():
    low, high = search_range(
        data(-1.0, 1.0), parse_format("int8u"), lambda low, high: torch.zeros_like(low), 10
    )
    assert (low.item(), high.item()) == (-1.0, 1.0)
