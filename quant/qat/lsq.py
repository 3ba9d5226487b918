"""Learned step sizes (LSQ, Esser et al., arXiv 1902.08153).

``v^ = S round(clip(v / S, qmin, qmax))`` with a step ``S`` per slice that learns by the gradient

    dv^/dS = round(v / S) - v / S   inside the range,   qmin or qmax outside,

scaled by ``1 / sqrt(N qmax)`` so that steps and weights learn at similar speeds. The step starts
at ``2 mean|v| / sqrt(qmax)``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from quant.errors import UsageError
from quant.formats import Format, Scheme
from quant.slices import SliceLayout

LEAST = 1e-8


class Lsq(nn.Module):
    """A quantizer of one weight, differentiable in the weight and in its steps.

    Args:
        weight: where steps start.
        layout: its slices in the format's granularity.
        fmt: a symmetric integer format.

    Raises:
        UsageError: the format is not symmetric integers.
    """

    def __init__(self, weight: Tensor, layout: SliceLayout, fmt: Format) -> None:
        super().__init__()
        if fmt.kind != "int" or fmt.scheme is Scheme.ASYMMETRIC:
            raise UsageError(
                f"steps of '{fmt}' cannot be learned",
                where="quant.qat.lsq",
                expected="symmetric integers, for example int4sc",
            )
        self.layout, self.fmt = layout, fmt
        slices = layout.slice(weight.detach())
        start = 2 * slices.abs().mean(dim=1, keepdim=True) / math.sqrt(max(fmt.qmax, 1))
        self.step = nn.Parameter(start.clamp(min=LEAST))
        self.gradient_scale = 1 / math.sqrt(slices.shape[1] * max(fmt.qmax, 1))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight on its grid, same shape."""
        slices = self.layout.slice(weight)
        found: Tensor = _Round.apply(  # type: ignore[no-untyped-call]
            slices, self.step, self.fmt.qmin, self.fmt.qmax, self.gradient_scale
        )
        return self.layout.unslice(found)

    def codes(self, weight: Tensor) -> Tensor:
        """Integer codes in the weight's shape, int32."""
        slices = self.layout.slice(weight.detach()) / self._positive()
        rounded = slices.round().clamp(self.fmt.qmin, self.fmt.qmax)
        return self.layout.unslice(rounded.to(torch.int32))

    def _positive(self) -> Tensor:
        return self.step.detach().clamp(min=LEAST)


class _Round(torch.autograd.Function):
    """Rounds; backward as in the module docstring. Steps are kept at ``LEAST`` or above."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, qmin: int, qmax: int, scale: float) -> Tensor:
        kept = step.clamp(min=LEAST)
        ratio = x / kept
        ctx.save_for_backward(ratio)
        ctx.ends, ctx.scale = (qmin, qmax), scale
        return ratio.round().clamp(qmin, qmax) * kept

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (ratio,) = ctx.saved_tensors
        (low, high), grad = ctx.ends, grads[0]
        inside = (ratio > low) & (ratio < high)
        slope = torch.where(inside, ratio.round() - ratio, ratio.clamp(low, high))
        step = (grad * slope).sum(dim=1, keepdim=True) * ctx.scale
        return grad * inside, step, None, None, None
