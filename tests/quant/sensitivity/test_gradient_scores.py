"""Output error, Fisher, elementwise, FIT and top eigenvalue in closed form on one linear layer."""

import numpy as np
import pytest
import torch
from torch import nn

from quant.errors import UsageError
from quant.sensitivity.blocks import Block
from quant.sensitivity.eigenvalue import TopEigenvalue
from quant.sensitivity.fit import Fit
from quant.sensitivity.gradient import OutputGradient
from quant.sensitivity.output_error import OutputError
from tests.quant.models import images, residual_net, take
from tests.quant.sensitivity.contexts import CHOICES, context

GROUPS = [["0"], ["3.conv1", "3.conv2"], ["6"]]
ROUNDED = take("int3srt", "float32", "minmax")


def linear_case(n=40, inputs=3, classes=4, seed=0):
    """One linear layer under softmax: everything about it is known."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(inputs, classes, bias=False))
    x, labels = torch.randn(n, inputs), torch.randint(0, classes, (n,))
    ctx = context(model, x, labels, [["0"]], [ROUNDED, take()])
    weight = model[0].weight.detach().double()
    change = ctx.quantized.weight("0", ROUNDED.weight, "minmax").double() - weight
    dy = x.double() @ change.T
    p = (x.double() @ weight.T).softmax(1)
    return ctx, x.double(), labels, dy, p


def deep(labels=True):
    x = images()
    return context(residual_net(), x, torch.arange(len(x)) % 2 if labels else None, GROUPS)


ALL = [OutputError(), OutputGradient("fisher"), OutputGradient("elementwise", "given"), Fit()]


@pytest.mark.parametrize("score", ALL, ids=lambda score: score.kind)
def test_float_is_zero_fewer_bits_are_worse_and_the_model_is_left_alone(score):
    ctx = deep()
    before = ctx.quantized(ctx.inputs)
    table = score.compute(ctx)
    assert table.kind == score.kind
    assert np.allclose(table.value[:, -1], 0, atol=1e-12)
    assert (table.value[:, 0] > table.value[:, 2]).all()
    assert (table.standard_error >= 0).all()
    assert table.forward_equivalents > 0
    assert torch.equal(ctx.quantized(ctx.inputs), before)


def test_output_error_is_noise_over_signal():
    ctx, x, _, dy, _ = linear_case()
    y = x @ ctx.quantized.original("0").detach().double().T
    table = OutputError().compute(ctx)
    # Batches of four are normalised one by one.
    parts = [
        (dy[i : i + 4].square().sum(1) / y[i : i + 4].square().sum(1).mean())
        for i in range(0, 40, 4)
    ]
    each = torch.cat(parts)
    assert table.value[0, 0] == pytest.approx(float(each.mean()), rel=1e-4)
    assert table.standard_error[0, 0] == pytest.approx(float(each.std() / 40**0.5), rel=1e-4)


def test_empirical_fisher_is_the_squared_directional_derivative():
    ctx, _, labels, dy, p = linear_case()
    slope = p - torch.nn.functional.one_hot(labels, 4)
    each = (slope * dy).sum(1).square() / 2
    table = OutputGradient("fisher", "given").compute(ctx)
    assert table.value[0, 0] == pytest.approx(float(each.mean()), rel=1e-4)


def test_sampled_fisher_tends_to_gauss_newton():
    ctx, _, _, dy, p = linear_case(n=60)
    variance = (p * dy.square()).sum(1) - (p * dy).sum(1).square()
    expected = float(variance.mean()) / 2
    table = OutputGradient("fisher", "sampled", draws=200).compute(ctx)
    assert table.value[0, 0] == pytest.approx(expected, rel=0.1)
    assert OutputGradient("fisher").needs_labels is False


def test_elementwise_leaves_the_cross_terms_out():
    ctx, _, labels, dy, p = linear_case()
    slope = p - torch.nn.functional.one_hot(labels, 4)
    each = (slope * dy).square().sum(1)
    table = OutputGradient("elementwise", "given").compute(ctx)
    assert table.value[0, 0] == pytest.approx(float(each.mean()), rel=1e-4)


def test_fit_traces_are_squared_gradient_norms():
    ctx, x, labels, _, p = linear_case()
    slope = p - torch.nn.functional.one_hot(labels, 4)
    weight = ctx.quantized.original("0").detach().double()
    traces = Fit().traces(ctx)
    expected = slope.square().sum(1) * x.square().sum(1)
    assert traces[Block("0", "weight")][0] == pytest.approx(float(expected.mean()), rel=1e-4)
    entering = (slope @ weight).square().sum(1)
    assert traces[Block("0", "input")][0] == pytest.approx(float(entering.mean()), rel=1e-4)
    table = Fit().compute(ctx)
    error = ctx.quantized.weight_error("0", ROUNDED.weight, "minmax") / weight.numel()
    assert table.value[0, 0] == pytest.approx(float(expected.mean()) * error, rel=1e-4)


def half_square(output, _labels):
    return output.square().sum(dim=1).mean() / 2


def test_the_top_eigenvalue_is_that_of_the_input_covariance():
    ctx, x, *_ = linear_case()
    expected = float(torch.linalg.eigvalsh(x.T @ x / len(x)).max())
    values, steps, settled = TopEigenvalue(1e-5, 200, half_square).eigenvalues(ctx)
    assert settled
    assert steps > 1
    assert values["0"] == pytest.approx(expected, rel=1e-3)
    table = TopEigenvalue(1e-5, 200, half_square).compute(ctx)
    error = ctx.quantized.weight_error("0", ROUNDED.weight, "minmax")
    assert table.value[0, 0] == pytest.approx(expected / 2 * error, rel=1e-3)
    assert table.value[0, 1] == 0


def test_too_few_power_iterations_are_said():
    table = TopEigenvalue(1e-9, 2).compute(deep())
    assert any("tolerance of 1e-09 was not reached" in note for note in table.notes)
    assert any("inputs are not scored" in note for note in table.notes)


@pytest.mark.parametrize(
    "score", [OutputGradient("fisher", "given"), Fit(), TopEigenvalue()], ids=lambda s: s.kind
)
def test_missing_or_uneven_labels_are_refused(score):
    with pytest.raises(UsageError, match=r"(?s)needs labels.*without labels"):
        score.compute(deep(labels=False))
    ctx = deep()
    short = type(ctx)(**{**vars(ctx), "labels": ctx.labels[:3]})
    with pytest.raises(UsageError, match="inputs and 3 labels"):
        score.compute(short)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OutputGradient("fischer"), "did you mean 'fisher'"),
        (lambda: OutputGradient("fisher", "true"), "unknown labels 'true'"),
        (lambda: OutputGradient("fisher", draws=0), "draws is 0"),
        (lambda: TopEigenvalue(0), "tolerance > 0"),
    ],
)
def test_bad_options_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.round(self.fc(x)))


def test_an_op_without_gradient_is_named_with_a_way_out():
    ctx = context(Steps(), torch.randn(8, 4), torch.arange(8) % 2, [["fc"], ["head"]])
    for score in (Fit(), TopEigenvalue()):
        with pytest.raises(UsageError, match=r"(?s)'fc'.*'round'.*without gradients"):
            score.compute(ctx)


def test_fisher_sees_interactions_inside_a_group():
    # A group's effects add before they are squared: not the sum of its layers' scores.
    together = OutputGradient("fisher", "given").compute(deep()).value[1, 0]
    x = images()
    apart = context(
        residual_net(), x, torch.arange(len(x)) % 2, [["3.conv1"], ["3.conv2"]], CHOICES
    )
    values = OutputGradient("fisher", "given").compute(apart).value[:, 0]
    assert together != pytest.approx(values.sum(), rel=1e-3)
