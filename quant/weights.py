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


def weight_quantizer(
    weight: Tensor, layout: SliceLayout, fmt: Format, calibrator: Calibrator, *, name: str = ""
) -> WeightQuantizer:
    """Calibrates a format on a weight.

    Raises:
        UsageError: the format is dynamic; weights do not change at run time.
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
            mask = layout.slice(torch.ones_like(weight))
            return WeightQuantizer(layout, fit(layout.slice(weight.detach()), mask, fmt))
        low, high = _ranges(layout.slice(weight.detach()), layout, fmt, calibrator, name)
        return WeightQuantizer(layout, qparams_from_range(low[:, None], high[:, None], fmt))


def _ranges(
    slices: Tensor, layout: SliceLayout, fmt: Format, calibrator: Calibrator, name: str
) -> Range:
    """Range of each slice, ``[S]``; padding of short groups takes no part."""
    if fmt.granularity is not Granularity.GROUP or layout.tail == layout.width:
        return calibrator.range(Distribution.of_slices(slices, name=name), fmt)
    blocks = slices.view(layout.channels, layout.per_channel, layout.width)
    whole = blocks[:, :-1].reshape(-1, layout.width)
    short = blocks[:, -1, : layout.tail]
    ranges = [calibrator.range(Distribution.of_slices(s, name=name), fmt) for s in (whole, short)]
    low, high = (
        torch.cat([first.view(layout.channels, -1), last[:, None]], dim=1).reshape(-1)
        for first, last in zip(*ranges, strict=True)
    )
    return low, high
