import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from quant.errors import UsageError
from quant.sensitivity.blocks import Block
from quant.sensitivity.hutchinson import Hutchinson
from quant.sensitivity.trace import TraceEstimate
from tests.quant.models import images, residual_net, take
from tests.quant.sensitivity.contexts import CHOICES, context


def half_square(output, _labels):
    return output.square().sum(dim=1).mean() / 2


def linear(inputs=3, outputs=2):
    return nn.Sequential(nn.Linear(inputs, outputs))


def labels_of(x, classes=2):
    return torch.arange(len(x)) % classes


def mlp(seed=0):
    """Two smooth layers; the second runs twice."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.b(torch.tanh(self.b(torch.tanh(self.a(x)))))

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net()


# Closed form.


def test_a_diagonal_hessian_is_exact_after_one_vector():
    # loss = mean |W x|^2 / 2 with unit vectors x: H = diag(1/3) over 2 x 3 weights, trace 2.
    x = torch.eye(3)
    ctx = context(linear(), x, labels_of(x), [["0"]])
    traces, _ = Hutchinson(loss=half_square, round_probes=2, activations=False).traces(ctx)
    (trace,) = traces.values()
    assert trace.mean == pytest.approx(2.0)
    assert trace.standard_error == pytest.approx(0.0, abs=1e-6)
    assert trace.count == 2


@pytest.mark.parametrize("batch_size", [1, 2, 3, 50])
def test_uneven_batches_weigh_by_their_samples(batch_size):
    x = torch.eye(3) * torch.tensor([1.0, 2.0, 3.0])
    ctx = context(linear(), x, labels_of(x), [["0"]], batch_size=batch_size)
    traces, _ = Hutchinson(loss=half_square, round_probes=2, activations=False).traces(ctx)
    assert traces[Block("0", "weight")].mean == pytest.approx(2 * (1 + 4 + 9) / 3)


def test_softmax_regression():
    # Trace over weights: E[sum_k p_k (1 - p_k)] |x|^2 (Boehning, 1992).
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    model = linear()
    ctx = context(model, x, labels_of(x), [["0"]], batch_size=5)
    traces, _ = Hutchinson(max_probes=400, tolerance=0.05, activations=False).traces(ctx)
    p = model(x).softmax(dim=1).detach()
    expected = float(((p * (1 - p)).sum(1) * x.square().sum(1)).mean())
    trace = traces[Block("0", "weight")]
    assert abs(trace.mean - expected) <= 4 * trace.standard_error + 1e-6
    assert trace.relative_error < 0.05


def test_score_is_the_published_formula():
    x = torch.eye(3)
    ctx = context(linear(), x, labels_of(x), [["0"]])
    table = Hutchinson(loss=half_square, activations=False).compute(ctx)
    model = ctx.quantized
    expected = [2.0 / 6 * model.weight_error("0", choice.weight) for choice in CHOICES]
    np.testing.assert_allclose(table.value[0], expected, rtol=1e-5)
    assert table.kind == "hutchinson"
    assert table.value[0, 3] == 0


def test_input_score_is_curvature_times_mean_square_error():
    # loss = mean |W x|^2 / 2: trace over all inputs of the batch is |W|^2 whatever its size.
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    ctx = context(linear(), x, labels_of(x), [["0"]], [take("float32", "int4ut")])
    table = Hutchinson(loss=half_square, max_probes=400, tolerance=0.01).compute(ctx)
    model = ctx.quantized
    curvature = float(model.original("0").detach().square().sum())
    expected = curvature * model.input_error("0", CHOICES[1].activation)
    assert table.value.item() == pytest.approx(expected, rel=0.05)
    assert abs(table.value.item() - expected) <= 4 * table.standard_error.item()


# Against the full Hessian.


@pytest.mark.parametrize("probe", ["layer", "group", "all"])
def test_traces_are_those_of_the_full_hessian(probe):
    model, x = mlp(), torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    labels = labels_of(x, 4)
    ctx = context(model, x, labels, [["a", "b"]], batch_size=3)
    traces, _ = Hutchinson(probe=probe, max_probes=300, tolerance=0.03).traces(ctx)

    for name in ("a", "b"):
        weight = model.get_submodule(name).weight.detach()

        def loss_of(w, name=name):
            output = torch.func.functional_call(model, {f"{name}.weight": w}, (x,))
            return cross_entropy(output, labels)

        hessian = torch.autograd.functional.hessian(loss_of, weight)
        expected = float(hessian.reshape(weight.numel(), -1).trace())
        trace = traces[Block(name, "weight")]
        assert abs(trace.mean - expected) <= 4 * trace.standard_error

    inputs = torch.autograd.functional.hessian(lambda t: cross_entropy(model(t), labels), x)
    expected = float(inputs.reshape(x.numel(), -1).trace())
    trace = traces[Block("a", "input")]
    assert abs(trace.mean - expected) <= 4 * trace.standard_error


def test_joint_vectors_are_noisier_but_agree():
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    results = {}
    for probe in ("layer", "all"):
        ctx = context(mlp(), x, labels_of(x, 4), [["a"], ["b"]])
        score = Hutchinson(probe=probe, max_probes=200, round_probes=200, activations=False)
        results[probe], _ = score.traces(ctx)
    for block, single in results["layer"].items():
        joint = results["all"][block]
        assert joint.standard_error > single.standard_error
        allowed = 4 * math.hypot(joint.standard_error, single.standard_error)
        assert abs(joint.mean - single.mean) <= allowed


# Stopping.


def test_estimate_has_the_textbook_standard_error():
    estimate = TraceEstimate([0.25, 0.75])
    for batch, forms in enumerate(([1.0, 3.0], [4.0, 8.0])):
        for form in forms:
            estimate.add(batch, form)
    assert estimate.mean == 0.25 * 2 + 0.75 * 6
    # Sample variances 2 and 8, two vectors each.
    expected = math.sqrt((0.25**2 * 2 + 0.75**2 * 8) / 2)
    assert estimate.standard_error == pytest.approx(expected)
    assert estimate.relative_error == pytest.approx(expected / 5)


def test_relative_error_at_the_edges():
    one = TraceEstimate([1.0])
    one.add(0, 5.0)
    assert one.standard_error == math.inf
    flat = TraceEstimate([1.0])
    flat.add(0, 0.0)
    flat.add(0, 0.0)
    assert flat.relative_error == 0.0
    balanced = TraceEstimate([1.0])
    balanced.add(0, 1.0)
    balanced.add(0, -1.0)
    assert balanced.relative_error == math.inf


def test_probing_stops_block_by_block_and_at_the_limit():
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    ctx = context(mlp(), x, labels_of(x, 4), [["a"], ["b"]])
    seen = []
    score = Hutchinson(tolerance=0.1, max_probes=10_000, round_probes=4)
    traces, work = score.traces(ctx, lambda done, total: seen.append(done))
    counts = [trace.count for trace in traces.values()]
    assert all(trace.relative_error < 0.1 for trace in traces.values())
    assert len(set(counts)) > 1
    assert seen == list(range(4, max(counts) + 1, 4))
    # 3 per round for the gradient, 4 per probe of a block.
    assert work == 3 * len(seen) + 4 * sum(counts)

    ctx = context(mlp(), x, labels_of(x, 4), [["a"], ["b"]])
    limited = Hutchinson(tolerance=1e-9, max_probes=6, round_probes=4)
    traces, _ = limited.traces(ctx)
    assert {trace.count for trace in traces.values()} == {6}
    assert "the tolerance of 1e-09 was not reached" in limited.compute(ctx).notes


def test_same_seed_same_table_other_seed_other_table():
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    score = Hutchinson(max_probes=4)
    tables = [
        score.compute(context(mlp(), x, labels_of(x, 4), [["a"], ["b"]], seed=seed)).value
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(tables[0], tables[1])
    assert not np.array_equal(tables[0], tables[2])


# A whole network.


def test_a_convolutional_network():
    x = images(8)
    ctx = context(residual_net(), x, labels_of(x, 5), [["0"], ["3.conv1", "3.conv2"], ["6"]])
    before = {name: (p.clone(), p._version) for name, p in ctx.quantized.module.named_parameters()}
    with torch.no_grad():
        output = ctx.quantized(x)
    table = Hutchinson(max_probes=8, tolerance=0.5).compute(ctx)
    assert table.value.shape == (3, 4)
    assert np.all(table.value >= 0)
    assert np.all(table.value[:, 3] == 0)
    assert np.all(table.standard_error >= 0)
    with torch.no_grad():
        assert torch.equal(ctx.quantized(x), output)
    for name, parameter in ctx.quantized.module.named_parameters():
        assert parameter.grad is None
        assert torch.equal(parameter, before[name][0])
        assert parameter._version == before[name][1]


def test_frozen_parameters_are_scored_too():
    model = mlp()
    model.requires_grad_(False)
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
    table = Hutchinson(max_probes=8).compute(context(model, x, labels_of(x, 4), [["a"], ["b"]]))
    assert np.all(table.value[:, 0] > 0)


def test_float_inputs_are_not_probed():
    x = torch.eye(3)
    ctx = context(linear(), x, labels_of(x), [["0"]], [take("int4src"), take()])
    traces, _ = Hutchinson(loss=half_square).traces(ctx)
    assert list(traces) == [Block("0", "weight")]


def test_attention_is_differentiated_twice():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 4)

        def forward(self, x):
            q, k, v = self.qkv(x).chunk(3, dim=-1)
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
            return self.out(mixed).mean(dim=1)

    x = torch.randn(4, 3, 4, generator=torch.Generator().manual_seed(1))
    ctx = context(Attention(), x, labels_of(x, 4), [["qkv"], ["out"]])
    table = Hutchinson(max_probes=4).compute(ctx)
    assert np.isfinite(table.value).all()


# Models and settings that cannot work.


def test_negative_traces_count_as_zero():
    x = torch.eye(3)
    ctx = context(linear(), x, labels_of(x), [["0"]], [take("int2src")])
    score = Hutchinson(loss=lambda out, y: -half_square(out, y))
    table = score.compute(ctx)
    assert table.value.tolist() == [[0.0]]
    assert "1 of 1 traces were negative and count as 0" in table.notes


def test_a_linear_loss_and_an_unused_layer_have_no_curvature():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            return self.used(x)

    x = torch.eye(3)
    choices = [take("int2src")]
    ctx = context(Net(), x, labels_of(x), [["used"], ["unused"]], choices)
    assert Hutchinson(loss=lambda out, _: out.sum()).compute(ctx).value.tolist() == [[0], [0]]
    value = Hutchinson(loss=half_square).compute(ctx).value
    assert value[0, 0] > 0
    assert value[1, 0] == 0


class Through(nn.Module):
    """A layer, some function, another layer."""

    def __init__(self, function):
        super().__init__()
        self.a, self.b, self.function = nn.Linear(3, 3), nn.Linear(3, 3), function

    def forward(self, x):
        return self.b(self.function(self.a(x)))


@pytest.mark.parametrize(
    ("function", "op"),
    [
        (torch.round, "round"),
        (torch.sign, "sign"),
        (lambda t: t.detach(), "detach"),
        (lambda t: (t > 0).float(), "gt"),
        (lambda t: torch.cdist(t, torch.zeros(3, 3)), "_cdist_backward"),
    ],
)
def test_ops_without_derivatives_are_named(function, op):
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    ctx = context(Through(function), x, labels_of(x, 3), [["a"], ["b"]], [take("int4src")])
    with pytest.raises(UsageError, match=f"'{op}'") as caught:
        Hutchinson().compute(ctx)
    assert "sqnr" in caught.value.fix
    with torch.no_grad():
        ctx.quantized(x)  # float again
    assert all(slot.content is None for slot in ctx.quantized.attachment._inputs.values())


def test_a_loss_without_any_gradient_is_named():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    ctx = context(linear(), x, labels_of(x), [["0"]], [take("int4src")])
    with pytest.raises(UsageError, match="'argmax'"):
        Hutchinson(loss=lambda out, y: (out.argmax(1) == y).float().mean()).compute(ctx)


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (torch.eye(3), None, "needs labels"),
        (torch.eye(3), torch.zeros(2, dtype=torch.long), "3 inputs and 2 labels"),
        (torch.empty(0, 3), torch.empty(0, dtype=torch.long), "0 inputs and 0 labels"),
    ],
)
def test_missing_data_is_refused(inputs, labels, message):
    ctx = context(linear(), torch.eye(3), labels, [["0"]])
    object.__setattr__(ctx, "inputs", inputs)
    with pytest.raises(UsageError, match=message):
        Hutchinson().compute(ctx)


def test_unknown_probe_and_numbers_out_of_range():
    with pytest.raises(UsageError, match="unknown probe 'layers'") as caught:
        Hutchinson(probe="layers")
    assert caught.value.fix == "did you mean 'layer'?"
    for bad in ({"tolerance": 0}, {"round_probes": 1}, {"max_probes": 2, "round_probes": 4}):
        with pytest.raises(UsageError, match="max_probes"):
            Hutchinson(**bad)
