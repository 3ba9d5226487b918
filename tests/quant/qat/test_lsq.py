"""Learned steps: the published gradient, limits, and convergence to a good step."""

import pytest
import torch
from torch import nn

from quant.calibration.mse import MeanSquaredError
from quant.errors import UsageError
from quant.formats import parse_format
from quant.qat.lsq import Lsq
from quant.slices import SliceLayout
from quant.weights import weight_quantizer


def made(text="int3sc", shape=(4, 9), seed=0):
    torch.manual_seed(seed)
    module = nn.Linear(*reversed(shape))
    fmt = parse_format(text)
    layout = SliceLayout.of(module, fmt.granularity, fmt.group_size)
    weight = torch.randn(shape)
    return weight, Lsq(weight, layout, fmt), layout, fmt


def test_steps_start_where_the_paper_starts_them():
    weight, lsq, _, fmt = made()
    expected = 2 * weight.abs().mean(1, keepdim=True) / fmt.qmax**0.5
    assert torch.allclose(lsq.step, expected)


@pytest.mark.parametrize("text", ["int2sc", "int3src", "int4st", "int4sg3"])
def test_the_result_lies_on_the_grid(text):
    weight, lsq, layout, fmt = made(text)
    codes = lsq.codes(weight)
    assert fmt.qmin <= int(codes.min()) and int(codes.max()) <= fmt.qmax
    decoded = layout.unslice(layout.slice(codes.float()) * lsq.step)
    assert torch.allclose(lsq(weight), decoded)


def test_gradients_are_the_published_ones():
    weight, lsq, _, fmt = made()
    weight.requires_grad_()
    upstream = torch.randn(4, 9)
    (lsq(weight) * upstream).sum().backward()
    ratio = (weight / lsq.step).detach()
    inside = (ratio > fmt.qmin) & (ratio < fmt.qmax)
    slope = torch.where(
        inside, ratio.round() - ratio, torch.where(ratio > 0, float(fmt.qmax), float(fmt.qmin))
    )
    expected = (upstream * slope).sum(1, keepdim=True) / (9 * fmt.qmax) ** 0.5
    assert torch.allclose(lsq.step.grad, expected, atol=1e-6)
    assert torch.allclose(weight.grad, upstream * inside)


def test_outside_the_range_the_gradient_is_the_slope_of_the_end():
    """Finite differences agree there: the value is qmax times the step."""
    weight, lsq, _, fmt = made("int2sc", (1, 5))
    weight = torch.full((1, 5), 100.0)
    lsq.zero_grad()
    lsq(weight).sum().backward()
    before = lsq(weight).sum().item()
    with torch.no_grad():
        lsq.step += 1e-3
    numeric = (lsq(weight).sum().item() - before) / 1e-3
    assert float(lsq.step.grad) == pytest.approx(numeric * lsq.gradient_scale, rel=1e-3)
    assert numeric == pytest.approx(5 * fmt.qmax, rel=1e-3)


def test_training_finds_a_step_nearly_as_good_as_the_search():
    weight, lsq, layout, fmt = made("int3sc", (6, 200))
    optimiser = torch.optim.Adam(lsq.parameters(), 0.01)
    for _ in range(400):
        optimiser.zero_grad()
        ((lsq(weight) - weight) ** 2).sum().backward()
        optimiser.step()
    best = weight_quantizer(weight, layout, fmt, MeanSquaredError())(weight)
    error, least = (float(((w - weight) ** 2).sum()) for w in (lsq(weight).detach(), best))
    assert error <= 1.1 * least


def test_a_step_never_turns_negative():
    weight, lsq, _, _ = made()
    with torch.no_grad():
        lsq.step.fill_(-1.0)
    assert torch.isfinite(lsq(weight)).all()
    assert lsq.codes(weight).abs().max() <= 4


@pytest.mark.parametrize("text", ["int4uc", "nf4c", "float16"])
def test_other_formats_are_refused(text):
    with pytest.raises(UsageError, match="cannot be learned"):
        made(text)
