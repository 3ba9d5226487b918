import numpy as np
import pytest
import torch
import torch.nn.functional as F

from quant.errors import UsageError
from quant.method import Method
from quant.model import QuantizedModel
from quant.sensitivity.base import ScoreContext
from quant.sensitivity.divergence import SingleLayer
from spaces.choices import parse_choice
from tests.models import tiny_transformer

LAYERS = ("embed", "blocks.0.up", "blocks.0.down", "head")
CHOICES = tuple(parse_choice(t) for t in ("int2src/int8ut", "int8src/int8ut", "float32/float32"))


def context(groups=tuple((name,) for name in LAYERS), labels=True):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(24, 1, 8, 8, generator=generator)
    quantized = QuantizedModel(tiny_transformer(), LAYERS, Method(), [inputs])
    targets = torch.arange(24) % 3 if labels else None
    offered = (CHOICES,) * len(groups)
    return ScoreContext(quantized, groups, offered, inputs, targets, 7, generator)


def outputs(ctx, layers, choice):
    ctx.quantized.apply(dict.fromkeys(layers, choice))
    with torch.no_grad():
        return F.log_softmax(ctx.quantized(ctx.inputs).double(), dim=1)


@pytest.mark.parametrize("kind", ["kl", "ce"])
def test_values_equal_trying_each_layer_by_hand(kind):
    ctx = context()
    table = SingleLayer(kind).compute(ctx)
    float_ = outputs(ctx, [], CHOICES[0])
    for g, layer in enumerate(LAYERS):
        for c, choice in enumerate(CHOICES):
            found = outputs(ctx, [layer], choice)
            if kind == "kl":
                each = F.kl_div(found, float_, log_target=True, reduction="none").sum(1)
            else:
                losses = [F.nll_loss(x, ctx.labels, reduction="none") for x in (found, float_)]
                each = losses[0] - losses[1]
            assert table.value[g, c] == pytest.approx(float(each.mean()), abs=1e-6)
            expected = float(each.std()) / 24**0.5
            assert table.standard_error[g, c] == pytest.approx(expected, abs=1e-6)


def test_float_costs_nothing_and_fewer_bits_cost_more():
    table = SingleLayer("kl").compute(context())
    assert np.abs(table.value[:, 2]).max() < 1e-9
    assert (table.value >= 0).all()
    assert (table.value[:, 0] > table.value[:, 1]).all()


def test_a_group_is_quantized_together():
    ctx = context(groups=(LAYERS[:2], LAYERS[2:]))
    table = SingleLayer("kl").compute(ctx)
    float_, both = outputs(ctx, [], CHOICES[0]), outputs(ctx, LAYERS[:2], CHOICES[0])
    expected = float(F.kl_div(both, float_, log_target=True, reduction="batchmean"))
    assert table.value[0, 0] == pytest.approx(expected, abs=1e-6)


def test_the_model_is_left_in_float_and_the_work_is_counted():
    ctx = context()
    before = outputs(ctx, [], CHOICES[0])
    seen = []
    table = SingleLayer("kl").compute(ctx, lambda done, total: seen.append((done, total)))
    with torch.no_grad():
        assert torch.equal(F.log_softmax(ctx.quantized(ctx.inputs).double(), dim=1), before)
    assert 1 < table.forward_equivalents < 1 + 4 * 2, "float is free, prefixes are kept"
    assert seen[-1] == (4, 4)


def test_cross_entropy_needs_labels_and_kl_does_not():
    ctx = context(labels=False)
    with pytest.raises(UsageError, match=r"(?s)'ce' needs labels.*'kl'"):
        SingleLayer("ce").compute(ctx)
    assert SingleLayer("kl").compute(ctx).value.shape == (4, 3)


def test_unknown_kinds_are_refused():
    with pytest.raises(UsageError, match="unknown kind 'kll'"):
        SingleLayer("kll")
