"""Repairs of several layers at once: block reconstruction and joint step sizes."""

import pytest
import torch
from torch import nn

from quant.method import Method
from quant.model import QuantizedModel
from quant.ptq.blocks import Block, capture, find_blocks
from tests.quant.models import images, residual_net, take

NAMES = ["0", "3.conv1", "3.conv2", "6"]
DATA = images(32)


def test_blocks_are_the_smallest_modules_around_layers():
    assert find_blocks(residual_net(), NAMES) == [
        Block("0", ("0",)),
        Block("3", ("3.conv1", "3.conv2")),
        Block("6", ("6",)),
    ]
    names = ["blocks.0.attention.query", "blocks.0.attention.out", "blocks.0.up", "head"]
    assert [b.name for b in find_blocks(nn.Module(), names)] == [
        "blocks.0.attention",
        "blocks.0.up",
        "head",
    ]


def test_capture_records_what_the_float_block_does():
    net = residual_net()
    samples = capture(net, Block("3", ()), DATA.split(16), torch.Generator().manual_seed(0))
    assert len(samples) == 2
    with torch.no_grad():
        for sample in samples:
            torch.testing.assert_close(net[3](*sample.args), sample.output)
            assert sample.weight.mean().item() == pytest.approx(1, rel=1e-3)
            assert bool((sample.weight > 0).all())


def quantized(repair):
    return QuantizedModel(residual_net(), NAMES, Method(repair=repair), DATA.split(16))


def block_error(model, net):
    """Plain squared error of the residual unit's output on the float model's input."""
    seen = []
    hook = net[3].register_forward_hook(lambda _, args, y: seen.append((args[0], y)))
    with torch.no_grad():
        net(DATA)
        hook.remove()
        found = model.module[3](seen[0][0])
    return (found - seen[0][1]).square().mean().item()


@pytest.mark.parametrize("repair", ["brecq", "qdrop"])
@pytest.mark.parametrize("text", ["int2src/int4ut", "int3uc/float32"])
def test_reconstruction_lowers_the_error_of_the_block(repair, text):
    weight, activation = text.split("/")
    choice = {name: take(weight, activation) for name in NAMES}
    errors = {}
    for kind in ((), (repair,)):
        model = quantized(kind)
        model.apply(choice)
        errors[kind] = block_error(model, residual_net())
        fmt = choice["6"].weight
        quantizer = model.weight_quantizer("3.conv1", fmt)
        weight_now = model.module[3].conv1.weight.detach()
        torch.testing.assert_close(quantizer(weight_now), weight_now, rtol=1e-4, atol=1e-6)
    assert errors[repair,] < errors[()]


def test_a_known_block_is_not_learned_again_and_float_stays_float():
    model = quantized(("brecq",))
    choice = {name: take("int2src") for name in NAMES}
    with torch.no_grad():
        exact = model(DATA)
        model.apply(choice)
        first = model(DATA)
        model.float_()
        assert torch.equal(model(DATA), exact)
        known = dict(model._blocks)
        model.apply(choice)
        assert torch.equal(model(DATA), first)
    assert model._blocks.keys() == known.keys()


def test_joint_steps_never_raise_the_loss_they_minimise():
    def loss(model):
        with torch.no_grad():
            reference, found = (
                torch.log_softmax(m(DATA).double(), 1) for m in (residual_net(), model)
            )
        return (reference.exp() * (reference - found)).sum().item()

    losses = {}
    for repair in ((), ("lapq",)):
        model = quantized(repair)
        model.apply({name: take("int3src", "int4ut") for name in NAMES})
        losses[repair] = loss(model)
    assert losses["lapq",] < losses[()]


def test_formats_without_an_integer_grid_are_left_to_their_own():
    model = quantized(("brecq",))
    model.apply({name: take("km2c") for name in NAMES})
    assert torch.equal(model.module[6].weight, model.weight("6", take("km2c").weight))
