"""Logit shifts by replay equal whole passes, cost less, and fall back when they must."""

import numpy as np
import pytest
import torch
from torch import nn

from quant.errors import DataError, UsageError
from quant.sensitivity.divergence import SingleLayer
from quant.sensitivity.lss import LogitSuperposition
from quant.sensitivity.replay import Replay, last_uses
from quant.sensitivity.shifts import logit_shifts
from tests.quant.sensitivity.contexts import context


class Chain(nn.Module):
    """Equal layers in a row, a residual addition, and a layer called twice."""

    def __init__(self, inplace=False):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.third, self.head = nn.Linear(6, 6), nn.Linear(6, 4)
        self.act = nn.ReLU(inplace=inplace)

    def forward(self, x):
        x = self.act(self.first(x))
        x = x + self.act(self.second(x))
        x = self.third(self.third(x))
        return self.head(x)


class InPlace(Chain):
    def forward(self, x):
        x = self.first(x)
        y = self.second(x)
        x.add_(y)
        return self.head(self.third(x))


class Untraceable(Chain):
    def forward(self, x):
        if x.sum() > 1e9:
            return self.head(x)
        return super().forward(x)


GROUPS = (("first",), ("second", "third"), ("head",))


def made(kind=Chain, labels=True, **options):
    torch.manual_seed(0)
    model, x = kind(**options).eval(), torch.randn(18, 6)
    return context(model, x, torch.arange(18) % 4 if labels else None, GROUPS)


@pytest.mark.parametrize("kind", [Chain, InPlace, Untraceable])
def test_replay_equals_running_everything(kind):
    fast, slow = logit_shifts(made(kind)), logit_shifts(made(kind), replay=False)
    assert np.allclose(fast.base, slow.base, atol=1e-6)
    assert np.allclose(fast.shifts, slow.shifts, atol=1e-5)
    assert fast.full_forwards == slow.full_forwards == slow.forward_equivalents


def test_choices_are_tried_one_group_at_a_time():
    ctx = made()
    found = logit_shifts(ctx)
    ctx.quantized.apply({"second": ctx.choices[1][0], "third": ctx.choices[1][0]})
    with torch.no_grad():
        expected = ctx.quantized(ctx.inputs).numpy() - found.base
    assert np.allclose(found.shifts[1, 0], expected, atol=1e-5)
    assert np.abs(found.shifts[0, 0] - found.shifts[1, 0]).max() > 1e-3


def test_float_choices_shift_nothing_and_cost_nothing():
    found = logit_shifts(made())
    assert (found.shifts[:, -1] == 0).all()
    assert found.full_forwards == 1 + 3 * 3


def test_work_is_the_share_of_macs_downstream():
    found = logit_shifts(made())
    # Macs: 36 each for first and second, 2 x 36 for third (called twice), 24 for the head.
    shares = np.array([168, 132, 24]) / 168
    assert found.forward_equivalents == pytest.approx(1 + 3 * shares.sum())


@pytest.mark.parametrize("kind", [InPlace, Untraceable])
def test_models_that_cannot_be_replayed_run_whole_and_say_so(kind):
    found = logit_shifts(made(kind))
    assert found.forward_equivalents == found.full_forwards
    assert "cannot be traced" in found.notes[0]


def test_a_harmless_in_place_relu_is_noticed_as_well():
    fast, slow = (logit_shifts(made(inplace=flag)) for flag in (True, False))
    assert np.allclose(fast.shifts, slow.shifts, atol=1e-5)


def test_downstream_nodes_are_those_a_layer_reaches():
    ctx = made()
    replay = Replay.of(ctx.quantized.module, ctx.layers)
    names = [str(node.target) for node in replay.downstream(("head",))]
    assert names == ["head", "output"]
    assert len(replay.downstream(("first",))) > len(replay.downstream(("third",)))


def test_the_model_is_left_in_float():
    ctx = made()
    before = ctx.quantized(ctx.inputs)
    logit_shifts(ctx)
    assert torch.equal(ctx.quantized(ctx.inputs), before)


def test_an_answer_of_nan_names_the_layer(monkeypatch):
    ctx = made()
    broken = torch.full((6, 6), torch.nan)
    monkeypatch.setattr(ctx.quantized, "weight", lambda *_: broken)
    with pytest.raises(DataError, match=r"NaN with .* in layer 'first'"):
        logit_shifts(ctx)


def test_lss_scores_single_layer_kl_and_predicts_policies():
    ctx = made()
    table = LogitSuperposition().compute(ctx)
    single = SingleLayer("kl").compute(made())
    assert table.kind == "lss"
    assert np.allclose(table.value, single.value)
    assert np.allclose(table.standard_error, single.standard_error)
    for g in range(3):
        codes = np.full(3, 3)
        codes[g] = 0
        found = table.surrogate.predict(codes)
        assert found["kl"][0] == pytest.approx(table.value[g, 0], rel=1e-4)
    changes = SingleLayer("ce").compute(made()).value
    float_ce = table.surrogate.predict(np.full(3, 3))["ce"][0]
    one = table.surrogate.predict(np.array([0, 3, 3]))["ce"][0]
    assert one - float_ce == pytest.approx(changes[0, 0], rel=1e-3, abs=1e-6)


def test_lss_without_labels_predicts_divergence_only():
    table = LogitSuperposition().compute(made(labels=False))
    assert set(table.surrogate.predict(np.zeros(3, int))) == {"kl"}


def test_many_classes_are_sketched():
    table = LogitSuperposition(classes=3).compute(made())
    assert table.surrogate.base.shape == (18, 3)
    with pytest.raises(UsageError, match="classes is 1"):
        LogitSuperposition(classes=1)


def test_replayed_tensors_are_freed_after_their_last_reader():
    ctx = made()
    nodes = Replay.of(ctx.quantized.module, ctx.layers).downstream(("first",))
    freed = last_uses(nodes)
    order = {node: place for place, node in enumerate(nodes)}
    for place, done in enumerate(freed):
        for node in done:
            assert all(order[user] <= place for user in node.users if user in order)
    assert sorted(order[node] for done in freed for node in done) == list(range(len(nodes) - 1))
