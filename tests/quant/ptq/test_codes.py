"""Ways to round one layer: AdaQuant, splitting, importance; and the choice of a way per layer."""

import pytest
import torch
from torch import nn

from quant.calibration import MinMax
from quant.errors import UsageError
from quant.formats import parse_format
from quant.method import Method
from quant.model import QuantizedModel
from quant.ptq.adaquant import adaquant, learned_step
from quant.ptq.codes import WAYS
from quant.ptq.names import PER_LAYER, extra_channels
from quant.ptq.rounding import output_error
from quant.ptq.split import merge_channels, outlier_channels, split_channels, split_round
from quant.slices import SliceLayout
from quant.weights import scalar_quantizer, weight_quantizer
from tests.quant.models import images, residual_net, take
from tests.quant.ptq.test_repair import IDS, LAYERS, change_of, prepared

NAMES = ["0", "3.conv1", "3.conv2", "6"]


@pytest.mark.parametrize("text", ["int2src", "int3uc", "int4sg5"])
@pytest.mark.parametrize("layer", LAYERS[:4], ids=IDS[:4])
def test_adaquant_never_hurts_the_output(layer, text):
    quantizer, moments = prepared(layer, text)
    weight = adaquant(layer.weight, quantizer, moments.second)
    error, before = (
        output_error(change_of(layer, w, moments.groups), moments.second)
        for w in (weight, quantizer(layer.weight).detach())
    )
    assert error <= before * (1 + 1e-4)
    slices = quantizer.layout.slice(weight)
    levels = max(len(row.unique()) for row in slices)
    assert levels <= 2**quantizer.fmt.bits + (text == "int4sg5")  # padding adds a zero


def test_adaquant_gains_where_inputs_correlate():
    quantizer, moments = prepared(LAYERS[1], "int2src")
    weight = adaquant(LAYERS[1].weight, quantizer, moments.second)
    plain = quantizer(LAYERS[1].weight).detach()
    error, before = (
        output_error(change_of(LAYERS[1], w, 1), moments.second) for w in (weight, plain)
    )
    assert error < 0.8 * before


def test_the_gradient_of_a_step_is_that_of_lsq():
    x = torch.tensor([[-9.0, -0.6, 0.2, 0.7, 5.0]]).double()
    q = scalar_quantizer(
        x.float(),
        SliceLayout((1, 5), parse_format("int3src").granularity),
        parse_format("int3src"),
        MinMax(),
    ).qparams
    scale = torch.tensor([[0.5]]).double().requires_grad_()
    learned_step(x, scale, q).sum().backward()
    steps = x / 0.5
    inside = steps.abs() <= 3
    expected = torch.where(inside, steps.round() - steps, steps.clamp(-3, 3)).sum()
    torch.testing.assert_close(scale.grad, expected.reshape(1, 1))


def test_splitting_keeps_the_function_and_halves_the_peak():
    weight = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    weight[:, 3] *= 10
    sources = outlier_channels(weight, 1)
    assert sources == [3]
    wide = split_channels(weight, sources, torch.zeros(1, 1))
    x = torch.randn(4, 8)
    torch.testing.assert_close(
        torch.cat([x, x[:, sources]], 1) @ wide.T, x @ weight.T, rtol=1e-4, atol=1e-5
    )
    assert wide.abs().max() <= weight.abs().max() / 2 + 1e-6
    torch.testing.assert_close(merge_channels(wide, sources), weight)


def test_halves_apart_by_a_step_round_to_the_whole():
    steps = torch.arange(-8.0, 8.0, 0.01).reshape(1, -1)
    halves = split_channels(steps, list(range(steps.shape[1])), torch.ones(1, 1))
    total = merge_channels(torch.round(halves), list(range(steps.shape[1])))
    ties = (steps - steps.floor() - 0.5).abs() < 1e-3
    assert torch.equal(total[~ties], torch.round(steps)[~ties])


def test_splitting_helps_a_tensor_with_an_outlier_channel():
    weight = torch.randn(16, 20, generator=torch.Generator().manual_seed(1))
    weight[:, 7] *= 8
    fmt, layout = (
        parse_format("int4srt"),
        SliceLayout((16, 20), parse_format("int4srt").granularity),
    )
    plain = weight_quantizer(weight, layout, fmt, MinMax())(weight)
    split = split_round(weight, layout, fmt, MinMax())
    assert (split - weight).square().sum() < 0.5 * (plain - weight).square().sum()
    assert [extra_channels(n) for n in (1, 20, 64)] == [1, 1, 3]


def test_every_way_of_a_layer_is_there():
    assert set(WAYS) == set(PER_LAYER)


def model_with(methods):
    return QuantizedModel(residual_net(), NAMES, Method(), images(16).split(8), methods)


@pytest.mark.parametrize("way", sorted(set(PER_LAYER) - {"rtn", "hessian"}))
def test_a_choice_selects_its_way_alone(way):
    model = model_with([way])
    x = images()
    with torch.no_grad():
        plain, own = (
            model.apply({name: take("int3src", method=m) for name in NAMES}) or model(x)
            for m in ("", way)
        )
        model.apply({name: take("int3src", method="rtn") for name in NAMES})
        assert torch.equal(model(x), plain)
    assert not torch.equal(own, plain)


@pytest.mark.parametrize("text", ["km2c", "vq1d4", "lv2c", "bc2c"])
def test_importance_changes_fitted_formats(text):
    model = model_with(["hessian"])
    fmt = parse_format(text)
    assert not torch.equal(model.weight("6", fmt, "hessian"), model.weight("6", fmt))


def test_importance_lowers_the_output_error_of_a_codebook():
    layer = nn.Linear(12, 6)
    x = torch.randn(200, 12, generator=torch.Generator().manual_seed(0)) * torch.logspace(
        -2, 1, 12
    )
    model = QuantizedModel(nn.Sequential(layer), ["0"], Method(), [x], ["hessian"])
    fmt = parse_format("km2t")
    errors = [
        ((x @ (model.weight("0", fmt, way) - layer.weight).T) ** 2).mean().item()
        for way in ("hessian", "")
    ]
    assert errors[0] < errors[1]


def test_calibrator_and_way_go_together():
    model = model_with(["minmax+gptq"])
    fmt = parse_format("int3src")
    assert not torch.equal(model.weight("6", fmt, "minmax+gptq"), model.weight("6", fmt, "minmax"))
    recipe = Method(repair=("gptq",)).recipe("minmax")
    assert (recipe.calibrator.name, recipe.way) == ("minmax", "gptq")


def test_a_way_that_was_not_announced_is_refused():
    model = model_with([])
    with pytest.raises(UsageError, match="'gptq' of layer '6' was not announced") as caught:
        model.apply({"6": take("int3src", method="gptq")})
    assert "layer_methods=['gptq']" in caught.value.fix


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gptk", "unknown method 'gptk'"),
        ("mse+kl", "two methods of a kind"),
        ("gptq+adaround", "two methods"),
    ],
)
def test_mistakes_in_a_layer_method_are_named(text, message):
    with pytest.raises(UsageError, match=message):
        Method().recipe(text)


@pytest.mark.parametrize(
    ("repair", "message"),
    [
        (("split",), "splitting channels makes a layer larger"),
        (("gptq", "brecq"), "gptq and brecq both choose the codes"),
        (("bias_correction", "analytic_bias"), "both correct biases"),
    ],
)
def test_repairs_that_cannot_be_meant_are_refused(repair, message):
    with pytest.raises(UsageError, match=message):
        Method(repair=repair)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibration": "distiled"}, "unknown source 'distiled'"),
        ({"samples": 0}, "method.samples is 0"),
        ({"seed": -1}, "method.seed is -1"),
        ({"repair": ("bn_reestimate",), "fold_batch_norm": False}, "none are folded"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Method(**options)
