import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from quant.formats import Granularity
from quant.slices import CONVS, TRANSPOSED, SliceLayout

T, C, G = Granularity.TENSOR, Granularity.CHANNEL, Granularity.GROUP
CASES = [
    pytest.param(kind(6, 12, 3, groups=groups), id=f"{kind.__name__}-g{groups}")
    for kind in (*CONVS, *TRANSPOSED)
    for groups in (1, 2, 6)
] + [pytest.param(nn.Linear(6, 12), id="Linear")]


@pytest.mark.parametrize("module", CASES)
@pytest.mark.parametrize("granularity", [T, C, G])
def test_layout_round_trips(module, granularity):
    layout = SliceLayout.of(module, granularity, 4)
    weight = module.weight.detach()
    slices = layout.slice(weight)
    assert torch.equal(layout.unslice(slices), weight)
    per_channel = 1 if granularity is not G else -(-layout.inputs // min(4, layout.inputs))
    rows = 1 if granularity is T else 12 * per_channel
    assert slices.shape == (rows, layout.width)
    assert layout.channels == 12


@pytest.mark.parametrize("module", CASES)
def test_a_row_holds_exactly_what_feeds_one_output_channel(module):
    # Zeroing row c must silence output channel c (bias aside) and no other channel.
    layout = SliceLayout.of(module)
    sides = 0 if isinstance(module, nn.Linear) else module.weight.dim() - 2
    x = torch.randn(2, 6, *[5] * sides, generator=torch.Generator().manual_seed(0))
    weight, bias = module.weight.detach(), module.bias.detach()
    for channel in (0, 5, 11):
        rows = layout.slice(weight).clone()
        rows[channel] = 0
        with torch.no_grad():
            full = module(x)
            cut = torch.func.functional_call(module, {"weight": layout.unslice(rows)}, (x,))
        change = (full - cut).abs().transpose(0, 1).flatten(1).amax(1)
        assert change.nonzero().flatten().tolist() == [channel]
        silent = cut.transpose(0, 1)[channel]
        assert torch.allclose(silent, bias[channel].expand_as(silent), atol=1e-6)


def test_the_last_group_is_padded_with_zeros():
    layout = SliceLayout((2, 5), G, 2)
    weight = torch.arange(1.0, 11.0).view(2, 5)
    assert layout.slice(weight).tolist() == [[1, 2], [3, 4], [5, 0], [6, 7], [8, 9], [10, 0]]
    assert (layout.per_channel, layout.width, layout.tail) == (3, 2, 1)
    assert torch.equal(layout.unslice(layout.slice(weight)), weight)


def test_a_group_wider_than_the_channel_is_the_channel():
    wide = SliceLayout((2, 5), G, 128)
    assert (wide.per_channel, wide.width, wide.tail) == (1, 5, 5)
    weight = torch.randn(2, 5)
    assert torch.equal(wide.slice(weight), SliceLayout((2, 5), C).slice(weight))


@given(st.integers(1, 5), st.integers(1, 20), st.integers(1, 25))
def test_groups_cover_every_input_once(channels, inputs, size):
    layout = SliceLayout((channels, inputs), G, size)
    weight = torch.arange(1.0, channels * inputs + 1).view(channels, inputs)
    slices = layout.slice(weight)
    assert torch.equal(layout.unslice(slices), weight)
    assert int((slices != 0).sum()) == weight.numel()
    assert layout.tail == inputs - (layout.per_channel - 1) * layout.width
    assert 1 <= layout.tail <= layout.width


@pytest.mark.parametrize("granularity", [T, C, G])
@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
def test_empty_weights(granularity, shape):
    layout = SliceLayout(shape, granularity, 2)
    assert layout.unslice(layout.slice(torch.empty(shape))).shape == shape
