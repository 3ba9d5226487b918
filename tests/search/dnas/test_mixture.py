"""Mixed layers: equal to plain ones where shares are one choice, gradients, and what is kept."""

import numpy as np
import pytest
import torch

from quant.method import Method
from quant.model import QuantizedModel
from search.dnas.mixture import Mixture, ladder_order
from spaces.inventory import trace
from tests.hw_profiles.layers import space_of
from tests.hw_profiles.networks import block

CHOICES = ("int2src/int4ut", "int4src/int8ut", "int8src/int8ut")


@pytest.fixture
def net():
    model, example = block()
    layers = trace(model, example).layers
    torch.manual_seed(0)
    batches = [torch.randn(16, 3, 8, 8)]
    quantized = QuantizedModel(model, [spec.name for spec in layers], Method(), batches)
    return quantized, space_of(layers, CHOICES), batches[0]


def one_hot(codes):
    return torch.nn.functional.one_hot(torch.as_tensor(codes), 3).float()


@pytest.mark.parametrize("trained", [False, True])
def test_one_choice_per_group_is_that_policy(net, trained):
    quantized, space, x = net
    codes = np.arange(len(space.groups)) % 3
    policy = space.policy(codes)
    quantized.apply({name: policy[name] for name in policy})
    with torch.no_grad():
        expected = quantized(x)
    mixture = Mixture(quantized, space, trained=trained)
    with torch.no_grad(), mixture.applied(one_hot(codes)) as module:
        found = module(x)
    if trained:  # steps of their own, where the paper starts them
        assert found.shape == expected.shape
        assert not torch.allclose(found, expected)
    else:
        assert torch.allclose(found, expected, atol=1e-5)


def test_it_leaves_the_model_in_float(net):
    quantized, space, x = net
    with torch.no_grad():
        before = quantized(x)
        with Mixture(quantized, space).applied(torch.full((len(space.groups), 3), 1 / 3)):
            pass
        assert torch.equal(quantized(x), before)
    cheapest = one_hot([0] * len(space.groups))
    with pytest.raises(RuntimeError, match="stop"), Mixture(quantized, space).applied(cheapest):
        raise RuntimeError("stop")
    with torch.no_grad():
        assert torch.equal(quantized(x), before)


def test_shares_get_the_gradient_of_finite_differences(net):
    """Of the last layer's weight; inputs and 16-bit keeping cost a few digits."""
    quantized, space, x = net
    mixture = Mixture(quantized, space)
    groups = len(space.groups)
    shares = torch.full((groups, 3), 1 / 3, requires_grad=True)

    def loss(p):
        with mixture.applied(p) as module:
            return module(x).square().sum()

    loss(shares).backward()
    for choice in range(3):
        ends = []
        for sign in (1, -1):
            moved = shares.detach().clone()
            moved[groups - 1, choice] += sign * 1e-2
            with torch.no_grad():
                ends.append(float(loss(moved)))
        numeric = (ends[0] - ends[1]) / 2e-2
        assert float(shares.grad[groups - 1, choice]) == pytest.approx(numeric, rel=0.05, abs=0.05)


def test_mixed_inputs_are_the_shares_of_both_widths(net):
    quantized, space, x = net
    layer = Mixture(quantized, space).layers["stem.0"]
    shares = torch.tensor([0.2, 0.5, 0.3], requires_grad=True)
    x = x.clone().requires_grad_()
    mixed = layer.input(shares)(x)
    four, eight = (quantizer(x) for quantizer in layer.inputs)
    assert torch.allclose(mixed, 0.2 * four + 0.8 * eight, atol=1e-6)
    upstream = torch.randn_like(mixed)
    grads = torch.autograd.grad(mixed, (x, shares), upstream)
    expected = torch.autograd.grad(0.2 * four + 0.8 * eight, x, upstream)[0]
    assert torch.allclose(grads[0], expected, atol=1e-5)
    dots = [(upstream * q).sum() for q in (four.detach(), eight.detach(), eight.detach())]
    assert torch.allclose(grads[1], torch.stack(dots), rtol=1e-4)


def test_weights_and_steps_learn_only_where_asked(net):
    quantized, space, x = net
    assert Mixture(quantized, space).parameters() == []
    mixture = Mixture(quantized, space, trained=True)
    before = quantized.original("head").clone()
    with mixture.applied(torch.full((len(space.groups), 3), 1 / 3)) as module:
        module(x).square().sum().backward()
    assert all(p.grad is not None for p in mixture.parameters())
    assert torch.equal(quantized.original("head"), before)


def test_choices_are_ordered_by_cost_and_padded():
    costs = torch.tensor([[3.0, 1.0, 2.0], [5.0, 4.0, 0.0]])
    assert ladder_order(costs, [3, 2]).tolist() == [[1, 2, 0], [1, 0, 0]]
