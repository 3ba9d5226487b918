"""Repairs that know of the folded batch norms: absorption, analytic means, re-estimation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from quant.attach import attach
from quant.folding import NormStatistics, fold_batch_norm, share_copy
from quant.method import Method
from quant.model import QuantizedModel
from quant.ptq.analytic import clipped_normal, input_means
from quant.ptq.equalize import absorb_bias, equalize
from quant.ptq.reestimate import reestimate
from tests.quant.models import randomise_norms, residual_net, take


@given(st.floats(-3, 3), st.floats(0.01, 3))
def test_clipped_normal_agrees_with_integration(mean, std):
    known = clipped_normal(
        NormStatistics(torch.tensor([mean]).double(), torch.tensor([std]).double())
    )
    z = torch.linspace(-9, 9, 200_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / (2 * torch.pi) ** 0.5 * (z[1] - z[0])
    value = (mean + std * z).clamp(min=0)
    first = (value * density).sum().item()
    assert known.mean.item() == pytest.approx(first, abs=1e-5)
    spread = ((value - first).square() * density).sum().sqrt().item()
    assert known.std.item() == pytest.approx(spread, abs=1e-4)


def test_a_constant_channel_is_clipped_as_it_is():
    known = clipped_normal(NormStatistics(torch.tensor([2.0, -2.0]), torch.zeros(2)))
    assert known.mean.tolist() == [2, 0]
    assert known.std.tolist() == [0, 0]


def chain():
    """Two convolutions without padding and a head; norms that lift some channels far up."""
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3),
    )  # fmt: skip
    randomise_norms(net).eval()
    with torch.no_grad():
        net[1].weight.uniform_(0.5, 1)
        net[1].bias[:] = torch.tensor([8.0, 6.0, 0.0, -1.0, 5.0, 0.5])
    return net


def trained_statistics(net, x):
    """Sets running statistics to what ``x`` gives, so that norms tell the truth of it."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    net.train()
    with torch.no_grad():
        net(x)
    return net.eval()


def images(n=64):
    return torch.randn(n, 2, 9, 9, generator=torch.Generator().manual_seed(0))


def test_absorption_keeps_the_function_where_outputs_stay_above_the_constant():
    folded = fold_batch_norm(trained_statistics(chain(), images()))
    norms, module = dict(folded.statistics), share_copy(folded.model)
    assert absorb_bias(module, norms) == ["0"]
    with torch.no_grad():
        exact, moved = folded.model(images()), module(images())
    assert (exact - moved).norm() < 1e-2 * exact.norm()  # one value in 740 lies below
    assert not torch.equal(module[0].bias, folded.model[0].bias)
    lowered = folded.statistics["0"].mean - norms["0"].mean
    expected = (folded.statistics["0"].mean - 3 * folded.statistics["0"].std).clamp(min=0)
    torch.testing.assert_close(lowered, expected)


def test_layers_with_zero_padding_absorb_nothing():
    folded = fold_batch_norm(residual_net())
    assert absorb_bias(folded.model, dict(folded.statistics)) == []


def test_equalization_scales_what_the_norms_say():
    folded = fold_batch_norm(chain())
    norms = dict(folded.statistics)
    before = folded.model[0].weight.clone()
    equalize(folded.model, norms)
    divisor = (before / folded.model[0].weight).flatten(1)[:, 0]
    torch.testing.assert_close(
        norms["0"].mean, folded.statistics["0"].mean / divisor, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        norms["0"].std, folded.statistics["0"].std / divisor, rtol=1e-4, atol=1e-5
    )


def test_means_from_norms_are_near_those_of_the_data():
    x = images(400)
    folded = fold_batch_norm(trained_statistics(chain(), x))
    means = input_means(folded.model, ["0", "3", "8"], folded.statistics)
    assert sorted(means) == ["3", "8"]  # nothing is known of the model's input
    seen = {}
    for name in means:
        folded.model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: seen.__setitem__(name, args[0])
        )
    with torch.no_grad():
        folded.model(x)
    actual = seen["3"].mean((0, 2, 3)).double()
    torch.testing.assert_close(means["3"].reshape(6, 9)[:, 0], actual, rtol=0.05, atol=0.05)
    torch.testing.assert_close(means["8"][0], seen["8"].mean(0).double(), rtol=0.1, atol=0.05)


def test_sums_of_branches_add_their_means():
    folded = fold_batch_norm(residual_net())
    means = input_means(folded.model, ["0", "3.conv1", "3.conv2", "6"], folded.statistics)
    assert "3.conv2" in means  # behind one norm and a ReLU
    assert "6" not in means  # flattened with four places per channel


def test_reestimation_restores_means_and_deviations_exactly_in_one_layer():
    x = images()
    folded = fold_batch_norm(trained_statistics(chain(), x))
    slots = attach(folded.model, ["0"])
    torch.manual_seed(0)
    slots.set("0", weight=slots.original("0").detach() * 1.7 + 0.02)
    reestimate(folded.model, slots, {"0": folded.statistics["0"]}, [x])
    seen = []
    folded.model[0].register_forward_hook(lambda _, args, y: seen.append(y))
    with torch.no_grad():
        folded.model(x)
    rows = seen[0].transpose(0, 1).flatten(1)
    torch.testing.assert_close(rows.mean(1), folded.statistics["0"].mean, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(rows.std(1), folded.statistics["0"].std, rtol=1e-3, atol=1e-4)


def test_reestimation_helps_low_widths_and_leaves_the_float_model():
    x = images()
    net = trained_statistics(chain(), x)
    names = ["0", "3", "8"]
    errors = {}
    for repair in ((), ("bn_reestimate",)):
        model = QuantizedModel(net, names, Method(repair=repair), [x])
        with torch.no_grad():
            model.apply({name: take("int2src") for name in names[:2]})
            errors[repair] = (model(x) - net(x)).norm().item()
            model.apply({})
            torch.testing.assert_close(model(x), net(x), rtol=1e-4, atol=1e-4)
    assert errors["bn_reestimate",] < errors[()]
