"""Uniform (affine) quantization: scale, zero point, codes, and the straight-through gradient.

``code = clip(round(x / S) + Z, qmin, qmax)`` and ``x^ = S (code - Z)``, with half-way cases
rounded to even and ``x / S`` computed as ``x * (1 / S)``, as runtimes do. Formulas: Jacob et
al., arXiv 1712.05877 (asymmetric); Gholami et al., arXiv 2103.13630, section III
(symmetric, full and restricted range). Gradient: Bengio et al., arXiv 1308.3432.

Infinite and NaN inputs are not hidden: infinities saturate, NaN stays NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quant.errors import DataError
from quant.formats import Format, Scheme
from quant.levels import level_table, mx_scale, nearest_level, pick_level

FLOAT_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True)
class QParams:
    """How real numbers map to the codes of one format.

    Attributes:
        scale: step between neighbouring levels, positive, broadcastable against the tensor (or
            against its sliced view, see :mod:`quant.slices`); ones for float formats.
        zero_point: code of real zero, int32, same shape as ``scale``; 0 for symmetric formats.
        fmt: the format.
        levels: fitted levels, ``[S, K]`` ascending; None for formats with fixed ones.
        numbers: what a file stores of each slice for ``levels`` to follow from (bases, or
            breakpoint and peak), ``[S, N]``; None where the levels themselves are stored.
    """

    scale: Tensor
    zero_point: Tensor
    fmt: Format
    levels: Tensor | None = None
    numbers: Tensor | None = None

    @property
    def table(self) -> Tensor:
        """Levels in ascending order, ``[K]`` or ``[S, K]``, in the scale's dtype and device."""
        if self.levels is not None:
            return self.levels
        return level_table(self.fmt).to(self.scale)


def qparams_from_range(low: Tensor, high: Tensor, fmt: Format, *, name: str = "") -> QParams:
    """Derives scale and zero point from ranges.

    A range always holds zero, else the error bound ``S / 2`` fails: ``low`` is lowered to 0 and
    ``high`` raised to 0 first. With ``n = 2^b - 1`` steps the scale is

    - asymmetric: ``(high - low) / n``, zero point ``round(-low / S)``;
    - symmetric, restricted range: ``max|x| / (2^(b-1) - 1)``;
    - symmetric, full range: ``2 max|x| / n``;
    - a table of levels: ``max|x|`` over the largest level, for block formats the power of two
      of :func:`quant.levels.mx_scale`.

    A range of (almost) zero width, as of an all-zero or empty tensor, gets scale 1, so that
    every value becomes exactly 0.

    Args:
        low: smallest values, any shape.
        high: largest values, same shape.
        fmt: the format.
        name: what the range belongs to, for the error message.

    Raises:
        DataError: a range is NaN or infinite.
    """
    check_finite(torch.stack([low, high]), name or "the range")
    if fmt.is_float:
        return QParams(torch.ones_like(low), torch.zeros_like(low, dtype=torch.int32), fmt)
    low, high = low.clamp(max=0), high.clamp(min=0)
    peak = torch.maximum(-low, high)
    steps = fmt.qmax - fmt.qmin
    if fmt.has_levels:
        scale = mx_scale(peak, fmt) if fmt.is_mx else peak / float(level_table(fmt).abs().max())
    elif fmt.scheme is Scheme.ASYMMETRIC:
        # Divided before subtracting: the width of a float32 range can overflow float32.
        scale = high / steps - low / steps
    elif fmt.scheme is Scheme.RESTRICTED:
        scale = peak / fmt.qmax
    else:
        scale = peak / (steps / 2)
    # Below the smallest normal number the reciprocal overflows; such ranges count as zero.
    scale = torch.where(scale < torch.finfo(scale.dtype).tiny, torch.ones_like(scale), scale)
    if fmt.scheme is Scheme.ASYMMETRIC:
        zero_point = torch.round(-low * scale.reciprocal()).clamp(fmt.qmin, fmt.qmax)
    else:
        zero_point = torch.zeros_like(scale)
    return QParams(scale, zero_point.to(torch.int32), fmt)


def quantize(x: Tensor, qparams: QParams) -> Tensor:
    """Codes of ``x`` in ``qmin..qmax``, int32, same shape; ``x`` itself for float formats."""
    fmt = qparams.fmt
    if fmt.is_float:
        return x.to(FLOAT_DTYPES[fmt.kind])
    if fmt.has_levels:
        return nearest_level(x * qparams.scale.reciprocal(), qparams.table).to(torch.int32)
    shifted = torch.round(x * qparams.scale.reciprocal()) + qparams.zero_point
    return shifted.clamp(fmt.qmin, fmt.qmax).to(torch.int32)


def dequantize(codes: Tensor, qparams: QParams) -> Tensor:
    """Real values ``S (code - Z)`` of codes, in the scale's dtype."""
    if qparams.fmt.is_float:
        return codes.to(qparams.scale.dtype)
    if qparams.fmt.has_levels:
        return pick_level(qparams.table, codes.long()) * qparams.scale
    return (codes - qparams.zero_point).to(qparams.scale.dtype) * qparams.scale


def fake_quantize(x: Tensor, qparams: QParams) -> Tensor:
    """``dequantize(quantize(x))`` in one go, with a straight-through gradient.

    The gradient is 1 where the unclipped code lies on the grid and 0 where ``x`` was clipped.
    Float formats are a round trip through their type. Never writes into ``x``, but may return
    it: do not write into the result either.

    Without a gradient this is one allocation and four passes in place, which on CPU is several
    times faster than torch's fused operator, and unlike that operator it keeps NaN.
    """
    fmt = qparams.fmt
    if fmt.is_float:
        return x.to(FLOAT_DTYPES[fmt.kind]).to(x.dtype)
    if fmt.has_levels:
        return _on_levels(x, qparams)
    if torch.is_grad_enabled() and x.requires_grad:
        result: Tensor = _StraightThrough.apply(x, qparams)  # type: ignore[no-untyped-call]
        return result
    steps = x.detach().mul(qparams.scale.reciprocal()).round_()
    return _clip(steps, *_bounds(qparams)).mul_(qparams.scale)


def _on_levels(x: Tensor, qparams: QParams) -> Tensor:
    """Nearest level; the gradient is 1 between the lowest and the highest level, else 0."""
    values = x.detach()
    result = dequantize(quantize(values, qparams), qparams)
    result = torch.where(torch.isnan(values), values, result)
    if not (torch.is_grad_enabled() and x.requires_grad):
        return result
    low, high = (qparams.table[..., end : end + 1 or None] * qparams.scale for end in (0, -1))
    inside = torch.minimum(torch.maximum(x, low), high)
    return inside + (result - inside).detach()


def check_finite(x: Tensor, name: str) -> None:
    """Raises DataError naming ``name`` when ``x`` holds NaN or infinity."""
    if x.numel() and not bool(torch.isfinite(x).all()):
        kind = "NaN" if bool(torch.isnan(x).any()) else "infinite"
        raise DataError(
            f"{kind} values in {name}",
            expected="finite numbers",
            fix="check the trained weights and the calibration data for overflow",
        )


def _bounds(qparams: QParams) -> tuple[Tensor | float, Tensor | float]:
    """Smallest and largest number of steps from zero."""
    fmt, zero_point = qparams.fmt, qparams.zero_point
    if zero_point.numel() == 1:
        # Plain numbers take the vectorised kernel; tensor bounds are four times slower.
        shift = zero_point.item()
        return fmt.qmin - shift, fmt.qmax - shift
    return fmt.qmin - zero_point, fmt.qmax - zero_point


def _clip(steps: Tensor, low: Any, high: Any) -> Tensor:
    return steps.clamp_(low, high)


class _StraightThrough(torch.autograd.Function):
    """Rounds in the forward pass; backward, lets the gradient of unclipped values through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, qparams: QParams) -> Tensor:
        steps = x.mul(qparams.scale.reciprocal()).round_()
        low, high = _bounds(qparams)
        ctx.save_for_backward((steps >= low) & (steps <= high))
        return _clip(steps, low, high).mul_(qparams.scale)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None
