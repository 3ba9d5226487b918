import numpy as np
import pytest
import torch
from torch import nn

from quant.errors import UsageError
from quant.sensitivity.base import ScoreContext, padded
from quant.sensitivity.sqnr import NoiseToSignal
from tests.quant.models import images, residual_net, take
from tests.quant.sensitivity.contexts import CHOICES, context

GROUPS = [["0"], ["3.conv1", "3.conv2"], ["6"]]


@pytest.fixture(scope="module")
def ctx():
    return context(residual_net(), images(), None, GROUPS)


def test_closed_form():
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    model[0].weight = nn.Parameter(torch.tensor([[1.0, 0.25]]))
    # Restricted int2 stores (1, 0): error 1/16 of a signal 17/16. int2 inputs 0, 1: no error.
    choice = take("int2srt", "int2ut", "minmax")
    ctx = context(model, torch.eye(2), None, [["0"]], [choice])
    assert NoiseToSignal().compute(ctx).value.item() == pytest.approx(1 / 17)


def test_noise_of_weight_and_input_add(ctx):
    value = NoiseToSignal().compute(ctx).value
    weights = NoiseToSignal(activations=False).compute(ctx).value
    model, choice = ctx.quantized, CHOICES[1]
    inputs = sum(
        model.input_error(name, choice.activation) / model.input_power(name) for name in GROUPS[1]
    )
    assert value[1, 1] - weights[1, 1] == pytest.approx(inputs)
    assert value[1, 0] == weights[1, 0]  # the input of this choice is float


def test_float_is_zero_and_fewer_bits_are_worse(ctx):
    value = NoiseToSignal().compute(ctx).value
    assert np.all(value[:, 3] == 0)
    assert np.all(value[:, 0] > value[:, 2])
    assert np.all(value[:, 1] > value[:, 2])


def test_a_group_is_the_sum_of_its_layers(ctx):
    apart = context(residual_net(), images(), None, [["0"], ["3.conv1"], ["3.conv2"], ["6"]])
    value, single = NoiseToSignal().compute(ctx).value, NoiseToSignal().compute(apart).value
    np.testing.assert_allclose(value[1], single[1] + single[2])


def test_power_and_error_of_inputs_are_those_of_the_data(ctx):
    x, model = images(), ctx.quantized
    assert model.input_power("0") == pytest.approx(float(x.square().mean()), rel=1e-3)
    for choice in CHOICES[1:3]:
        rounded = model.input_quantizer("0", choice.activation)(x)
        expected = float((rounded - x).square().mean())
        assert model.input_error("0", choice.activation) == pytest.approx(expected, rel=0.02)


def test_scaling_a_layer_changes_nothing():
    scaled = residual_net()
    with torch.no_grad():
        scaled[6].weight *= 8
    before = NoiseToSignal().compute(context(residual_net(), images(), None, [["6"]])).value
    after = NoiseToSignal().compute(context(scaled, images(), None, [["6"]])).value
    np.testing.assert_allclose(after, before, rtol=1e-6)


def test_a_layer_of_zeros_has_no_noise():
    model = residual_net()
    with torch.no_grad():
        model[6].weight.zero_()
    ctx = context(model, images(), None, [["6"]], [take("int2src")])
    assert NoiseToSignal().compute(ctx).value.tolist() == [[0.0]]


def test_table_is_padded_costs_nothing_and_reports_progress(ctx):
    uneven = ScoreContext(
        ctx.quantized,
        ctx.groups,
        (CHOICES, CHOICES[:1], CHOICES[:2]),
        images(),
        None,
        4,
        torch.Generator(),
    )
    seen = []
    table = NoiseToSignal().compute(uneven, lambda done, total: seen.append((done, total)))
    assert table.kind == "sqnr"
    assert np.isnan(table.value).sum(axis=1).tolist() == [0, 3, 2]
    np.testing.assert_array_equal(np.isnan(table.value), np.isnan(table.standard_error))
    assert np.nansum(table.standard_error) == 0
    assert table.forward_equivalents == 0
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_context_is_checked(ctx):
    with pytest.raises(UsageError, match="3 groups but choices for 1"):
        ScoreContext(ctx.quantized, ctx.groups, (CHOICES,), images(), None, 4, ctx.generator)
    with pytest.raises(UsageError, match="batch size 0"):
        ScoreContext(ctx.quantized, (), (), images(), None, 0, ctx.generator)
    assert ctx.layers == ("0", "3.conv1", "3.conv2", "6")


def test_padded():
    np.testing.assert_array_equal(padded([[1, 2], [3]]), [[1, 2], [3, np.nan]])
    assert padded([]).shape == (0, 0)
