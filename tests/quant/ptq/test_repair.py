"""Each repair on its own: identities, oracles and bounds."""

import pytest
import torch
from torch import nn

from quant.calibration import MinMax
from quant.folding import share_copy
from quant.formats import parse_format
from quant.ptq.bias import bias_shift
from quant.ptq.equalize import equalize
from quant.ptq.moments import InputMoments
from quant.ptq.rounding import adaround, gptq, output_error
from quant.slices import SliceLayout
from quant.weights import weight_quantizer

torch.manual_seed(0)
LAYERS = [
    nn.Linear(12, 6),
    nn.Conv2d(4, 6, 3, padding=1, stride=2),
    nn.Conv2d(4, 6, 3, padding=1, groups=2, padding_mode="circular"),
    nn.Conv2d(6, 6, 3, dilation=2, groups=6),
    nn.Conv1d(4, 6, 5, padding=2, bias=False),
]
IDS = ["linear", "conv", "grouped", "depthwise", "conv1d"]
FORMATS = ["int2src", "int3uc", "int4sg5", "nf4c", "km2c", "mxfp4g8", "ternary"]


def inputs(layer, n=64):
    generator = torch.Generator().manual_seed(0)
    if isinstance(layer, nn.Linear):
        mix = torch.randn(12, 12, generator=generator)
        return torch.randn(n, 12, generator=generator) @ mix + 1
    shape = [n, layer.in_channels, *[8] * len(layer.kernel_size)]
    return torch.randn(*shape, generator=generator).cumsum(-1)


def prepared(layer, text):
    fmt = parse_format(text)
    layout = SliceLayout.of(layer, fmt.granularity, fmt.group_size)
    moments = InputMoments(layer)
    for batch in inputs(layer).split(16):
        moments.update(batch)
    return weight_quantizer(layer.weight, layout, fmt, MinMax()), moments


def with_weight(layer, weight, x):
    with torch.no_grad():
        copy = share_copy(layer)
        copy.weight = nn.Parameter(weight)
        return copy(x)


def change_of(layer, weight, groups):
    rows = SliceLayout.of(layer).slice((weight - layer.weight).detach().double())
    return rows.reshape(groups, -1, rows.shape[1])


@pytest.mark.parametrize("layer", LAYERS, ids=IDS)
def test_moments_predict_the_error_and_the_mean_of_the_output(layer):
    quantizer, moments = prepared(layer, "int2src")
    x, rounded = inputs(layer), quantizer(layer.weight).detach()
    difference = with_weight(layer, rounded, x) - with_weight(layer, layer.weight, x)
    channels = difference.movedim(1, 0).flatten(1).double()
    change = change_of(layer, rounded, moments.groups)
    predicted = output_error(change, moments.second)
    torch.testing.assert_close(predicted, channels.square().mean(1).sum(), rtol=1e-4, atol=1e-7)
    shift = bias_shift(layer, layer.weight, rounded, moments.mean)
    torch.testing.assert_close(-shift.flatten(), channels.mean(1).float(), rtol=1e-3, atol=1e-5)
    corrected = with_weight(layer, rounded, x) + shift
    expected = with_weight(layer, layer.weight, x)
    for values in (corrected - expected).movedim(1, 0):
        assert abs(values.mean().item()) < 1e-5


def test_no_shift_without_rounding():
    layer = LAYERS[0]
    assert not bias_shift(layer, layer.weight, layer.weight, torch.ones(1, 12).double()).any()


@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("layer", LAYERS, ids=IDS)
def test_gptq_stays_on_the_grid_and_helps_the_output(layer, text):
    quantizer, moments = prepared(layer, text)
    weight = gptq(layer.weight, quantizer, moments.second)
    assert weight.shape == layer.weight.shape
    torch.testing.assert_close(quantizer(weight), weight, rtol=1e-4, atol=1e-6)
    error, plain = (
        output_error(change_of(layer, w, moments.groups), moments.second)
        for w in (weight, quantizer(layer.weight).detach())
    )
    assert error <= plain * (1 + 1e-5)


@pytest.mark.parametrize("text", FORMATS)
def test_gptq_is_plain_rounding_for_inputs_that_do_not_correlate(text):
    layer = LAYERS[1]
    quantizer, _ = prepared(layer, text)
    identity = torch.eye(36, dtype=torch.float64)[None] * 3
    result = gptq(layer.weight, quantizer, identity)
    torch.testing.assert_close(result, quantizer(layer.weight).detach())


def test_gptq_agrees_with_the_column_by_column_definition():
    layer = nn.Linear(5, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, 5, generator=torch.Generator().manual_seed(4)))
    quantizer = weight_quantizer(
        layer.weight, SliceLayout.of(layer), parse_format("int2src"), MinMax()
    )
    x = torch.randn(40, 1, generator=torch.Generator().manual_seed(2)).double()
    x = x + 0.3 * torch.randn(40, 5, generator=torch.Generator().manual_seed(3)).double()
    second = (x.T @ x / 40)[None]
    damped = second[0] + 0.01 * second[0].diagonal().mean() * torch.eye(5).double()
    rows = layer.weight.detach().double().clone()
    for j in range(5):  # the remaining inputs are refitted from scratch in every step
        rounded = quantizer(rows.float()).double()[:, j]
        inverse = torch.linalg.inv(damped[j:, j:])
        step = (rows[:, j] - rounded) / inverse[0, 0]
        rows[:, j:] -= step[:, None] * inverse[0]
        rows[:, j] = rounded
    exact, plain = layer.weight.detach().double(), quantizer(layer.weight).detach().double()
    losses = [(((w - exact) @ second[0]) * (w - exact)).sum(1) for w in (rows, plain)]
    expected = torch.where((losses[0] < losses[1])[:, None], rows, plain)
    assert not torch.equal(expected, plain)
    torch.testing.assert_close(gptq(layer.weight, quantizer, second), expected.float())


@pytest.mark.parametrize("text", ["int2src", "int3uc", "int4sg5"])
@pytest.mark.parametrize("layer", LAYERS[:4], ids=IDS[:4])
def test_adaround_rounds_up_or_down_and_never_hurts(layer, text):
    quantizer, moments = prepared(layer, text)
    weight = adaround(layer.weight, quantizer, moments.second)
    torch.testing.assert_close(quantizer(weight), weight, rtol=1e-4, atol=1e-6)
    scales = quantizer.qparams.scale.expand(-1, quantizer.layout.width)
    plain = quantizer(layer.weight).detach()
    clipped = (plain - layer.weight).abs()  # already further off than a step where clipped
    limit = torch.maximum(quantizer.layout.unslice(scales), clipped) * (1 + 1e-4)
    assert bool(((weight - layer.weight).abs() <= limit).all())
    error, before = (
        output_error(change_of(layer, w, moments.groups), moments.second) for w in (weight, plain)
    )
    assert error <= before * (1 + 1e-5)


def test_adaround_finds_better_codes_where_inputs_correlate():
    quantizer, moments = prepared(LAYERS[1], "int2src")
    weight = adaround(LAYERS[1].weight, quantizer, moments.second)
    plain = quantizer(LAYERS[1].weight).detach()
    error, before = (
        output_error(change_of(LAYERS[1], w, 1), moments.second) for w in (weight, plain)
    )
    assert error < 0.8 * before


def chain():
    net = nn.Sequential(
        nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3, bias=False), nn.Identity(), nn.ReLU(),
        nn.Conv2d(4, 3, 1), nn.Flatten(), nn.Linear(48, 6), nn.GELU(), nn.Linear(6, 2),
    )  # fmt: skip
    with torch.no_grad():
        net[0].weight[0] *= 50
        net[2].weight[1] *= 20
    return net.eval()


def test_equalization_keeps_the_function_and_evens_the_ranges():
    net, x = chain(), torch.randn(3, 2, 8, 8)
    copy = share_copy(net)
    before = [p.clone() for p in net.parameters()]
    assert equalize(copy) == [("0", "2"), ("2", "5")]  # neither flattening nor GELU commutes
    with torch.no_grad():
        torch.testing.assert_close(copy(x), net(x), rtol=1e-4, atol=1e-5)
    out_range = copy[0].weight.abs().flatten(1).amax(1)
    in_range = copy[2].weight.abs().transpose(0, 1).flatten(1).amax(1)
    torch.testing.assert_close(out_range, in_range, rtol=1e-2, atol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_dead_channels_are_left_alone():
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight[0] = 0
    equalize(net)
    assert all(bool(p.isfinite().all()) for p in net.parameters())
