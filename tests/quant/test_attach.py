import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from quant.attach import attach
from quant.errors import UsageError
from quant.slices import CONVS, TRANSPOSED
from tests.quant.models import images, residual_net

LAYERS = [
    pytest.param(
        kind(4, 8, 3, groups=groups),
        (2, 4, *[5] * (index % 3 + 1)),
        id=f"{kind.__name__}-g{groups}",
    )
    for index, kind in enumerate((*CONVS, *TRANSPOSED))
    for groups in (1, 2, 4)
] + [pytest.param(nn.Linear(4, 8), (2, 4), id="Linear")]


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_every_layer_type_takes_weight_and_input(layer, shape):
    model = nn.Sequential(layer)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(x)
        attachment = attach(model, ["0"])
        assert torch.equal(model(x), before)
        attachment.set("0", weight=torch.zeros_like(layer.weight))
        silent = model(x) - layer.bias.view(-1, *[1] * (before.dim() - 2))
        assert torch.count_nonzero(silent) == 0
        attachment.set("0", weight=lambda w: 2 * w, input=lambda t: t / 2)
        assert torch.allclose(model(x), before, atol=1e-5)
        attachment.clear()
        assert torch.equal(model(x), before)
        attachment.detach()
        assert torch.equal(model(x), before)


def test_detach_restores_the_very_same_model():
    model = residual_net()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    kinds = [type(module) for module in model.modules()]
    attachment = attach(model, ["0", "3.conv1", "6"])
    attachment.set("0", weight=torch.randn(8, 1, 3, 3), input=torch.relu)
    model(images())
    attachment.detach()
    assert [type(module) for module in model.modules()] == kinds
    # Removing a parametrization re-registers the weight behind the bias: the order may differ.
    assert set(model.state_dict()) == set(state)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())
    assert all(dict(model.named_parameters())[name] is p for name, p in parameters.items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_set_replaces_what_was_there_and_none_means_float():
    model = residual_net()
    attachment = attach(model, ["0", "6"])
    with torch.no_grad():
        float_output = model(images())
        attachment.set("0", weight=torch.zeros(8, 1, 3, 3))
        assert not torch.equal(model(images()), float_output)
        attachment.set("0")
        assert torch.equal(model(images()), float_output)


def test_a_callable_keeps_the_parameter_differentiable():
    model = nn.Sequential(nn.Linear(3, 2))
    attachment = attach(model, ["0"])
    attachment.set("0", weight=lambda w: w * 3)
    x = torch.ones(1, 3)
    model(x).sum().backward()
    original = attachment.original("0")
    assert isinstance(original, nn.Parameter)
    assert torch.equal(original.grad, torch.full((2, 3), 3.0))


def test_the_weight_given_as_a_tensor_gets_its_own_gradient():
    model = nn.Sequential(nn.Linear(3, 2))
    attachment = attach(model, ["0"])
    leaf = attachment.original("0").detach().requires_grad_()
    attachment.set("0", weight=leaf)
    (grad,) = torch.autograd.grad(model(torch.ones(1, 3)).sum(), leaf)
    assert torch.equal(grad, torch.ones(2, 3))


def test_inputs_given_by_keyword_are_quantized_too():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3, bias=False)

        def forward(self, x):
            return self.fc(input=x)

    net = Net()
    attachment = attach(net, ["fc"])
    attachment.set("fc", input=torch.zeros_like)
    assert torch.count_nonzero(net(torch.ones(1, 3))) == 0


def test_the_models_own_parametrization_survives():
    model = nn.Sequential(weight_norm(nn.Linear(3, 2)))
    x = torch.ones(1, 3)
    before = model(x)
    keys = list(model.state_dict())
    attachment = attach(model, ["0"])
    attachment.set("0", weight=lambda w: w * 0, input=None)
    assert not torch.equal(model(x), before)
    attachment.detach()
    assert torch.equal(model(x), before)
    assert list(model.state_dict()) == keys


def test_a_tied_parameter_stays_tied():
    model = nn.ModuleDict({"embedding": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    model["head"].weight = model["embedding"].weight
    attachment = attach(model, ["head"])
    attachment.set("head", weight=torch.zeros(5, 3))
    assert torch.count_nonzero(model["embedding"](torch.tensor([1]))) > 0
    attachment.detach()
    assert model["head"].weight is model["embedding"].weight


def test_unknown_layer_names_the_nearest():
    with pytest.raises(UsageError, match=r"unknown layer '3.conv_1'") as caught:
        attach(residual_net(), ["3.conv_1"])
    assert caught.value.fix == "did you mean '3.conv1'?"
    attachment = attach(residual_net(), ["0"])
    with pytest.raises(UsageError, match="unknown layer '6'"):
        attachment.set("6")


def test_layers_without_a_weight_are_refused():
    with pytest.raises(UsageError, match="layer '1' is a BatchNorm2d"):
        attach(residual_net(), ["1"])


def test_attaching_twice_is_refused():
    model = residual_net()
    attach(model, ["0"])
    with pytest.raises(UsageError, match="layer '0' is already attached"):
        attach(model, ["0"])


def test_one_module_under_two_names_is_refused_before_anything_changes():
    layer = nn.Linear(2, 2)
    model = nn.ModuleDict({"a": layer, "b": layer})
    with pytest.raises(UsageError, match="layers 'a' and 'b' are one module"):
        attach(model, ["a", "b"])
    assert type(layer) is nn.Linear
