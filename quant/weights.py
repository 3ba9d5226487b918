"""Quantizing one weight tensor: ranges per slice, codes, and the tensor a layer computes with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quant.affine import (
    QParams,
    check_finite,
    dequantize,
    fake_quantize,
    qparams_from_range,
    quantize,
)
from quant.calibration import Calibrator, Distribution, Range
from quant.codebook import fit
from quant.codebook.vector import VectorQuantizer, vector_quantizer
from quant.errors import UsageError
from quant.formats import Format, Granularity, Timing
from quant.slices import SliceLayout


@dataclass(frozen=True)
class WeightQuantizer:
    """A differentiable function of a weight that rounds it to a format.

    Attributes:
        layout: how the weight is sliced.
        qparams: scale and zero point of each slice, ``[S, 1]``.
    """

    layout: SliceLayout
    qparams: QParams

    @property
    def fmt(self) -> Format:
        """The format."""
        return self.qparams.fmt

    def __call__(self, weight: Tensor) -> Tensor:
        """The weight on the format's grid, same shape; straight-through gradient."""
        if self.qparams.fmt.is_float:
            return fake_quantize(weight, self.qparams)
        return self.layout.unslice(fake_quantize(self.layout.slice(weight), self.qparams))

    def codes(self, weight: Tensor) -> Tensor:
        """Integer codes in the weight's shape, int32."""
        return self.layout.unslice(quantize(self.layout.slice(weight), self.qparams))

    def decode(self, codes: Tensor) -> Tensor:
        """The weight that ``codes`` in the weight's shape stand for."""
        return self.layout.unslice(dequantize(self.layout.slice(codes), self.qparams))


Rounder = WeightQuantizer | VectorQuantizer
"""Both round a weight when called, and have ``layout``, ``fmt``, ``codes`` and ``decode``."""


def scalar_quantizer(
    weight: Tensor, layout: SliceLayout, fmt: Format, calibrator: Calibrator, *, name: str = ""
) -> WeightQuantizer:
    """:func:`weight_quantizer` for formats with one code per weight."""
    result = weight_quantizer(weight, layout, fmt, calibrator, name=name)
    assert isinstance(result, WeightQuantizer)
    return result


def weight_quantizer(
    weight: Tensor,
    layout: SliceLayout,
    fmt: Format,
    calibrator: Calibrator,
    *,
    name: str = "",
    importance: Tensor | None = None,
) -> Rounder:
    """Calibrates a format on a weight.

    Args:
        weight: of a supported layer.
        layout: its slices in the format's granularity.
        fmt: the format.
        calibrator: finds ranges; not asked by float and fitted formats.
        name: what the weight is called in messages.
        importance: how much the error of every weight counts, in the weight's shape; read by
            fitted formats only.

    Raises:
        UsageError: the format is dynamic or has a scale per token; weights do not change at
            run time and have no tokens.
        DataError: the weight holds NaN or infinity; the message names ``name``.
    """
    if fmt.timing is Timing.DYNAMIC:
        raise UsageError(
            f"weight format '{fmt}' is dynamic", expected="a static format", fix="drop '@dynamic'"
        )
    with torch.no_grad():
        if fmt.is_float:
            zero = weight.new_zeros(1, 1)
            return WeightQuantizer(layout, qparams_from_range(zero, zero, fmt))
        if fmt.is_fitted:
            check_finite(weight, name or "the tensor")
            if fmt.is_vector:
                return vector_quantizer(weight.detach(), layout, fmt, importance)
            counts = torch.ones_like(weight) if importance is None else importance
            slices = layout.slice(weight.detach())
            return WeightQuantizer(layout, fit(slices, layout.slice(counts), fmt))
        low, high = _ranges(layout.slice(weight.detach()), layout, fmt, calibrator, name)
        return WeightQuantizer(layout, qparams_from_range(low[:, None], high[:, None], fmt))


def _ranges(
    slices: Tensor, layout: SliceLayout, fmt: Format, calibrator: Calibrator, name: str
) -> Range:
    """Range of each slice, ``[S]``; padding of short groups takes no part."""
    if layout.tail == layout.width:
        return calibrator.range(Distribution.of_slices(slices, name=name), fmt)
    if fmt.granularity is Granularity.ROWS:
        parts = [slices[:-1], slices[-1:, : layout.tail]]
        ranges = [calibrator.range(Distribution.of_slices(s, name=name), fmt) for s in parts]
        return torch.cat([r[0] for r in ranges]), torch.cat([r[1] for r in ranges])
    blocks = slices.view(layout.channels, layout.per_channel, layout.width)
    whole = blocks[:, :-1].reshape(-1, layout.width)
    short = blocks[:, -1, : layout.tail]
    ranges = [calibrator.range(Distribution.of_slices(s, name=name), fmt) for s in (whole, short)]
    low, high = (
        torch.cat([first.view(layout.channels, -1), last[:, None]], dim=1).reshape(-1)
        for first, last in zip(*ranges, strict=True)
    )
    return low, high
