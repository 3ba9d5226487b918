"""Quantizing the tensor that enters a layer: one scale per tensor, static or per batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quant.affine import QParams, fake_quantize, qparams_from_range
from quant.calibration import Calibrator, StreamingHistogram
from quant.errors import DataError, UsageError
from quant.formats import Format, Granularity, Timing


@dataclass(frozen=True)
class StaticQuantizer:
    """Rounds to a range fixed by calibration; a sample does not depend on its batch.

    Attributes:
        qparams: 0-dim scale and zero point.
    """

    qparams: QParams

    def __call__(self, x: Tensor) -> Tensor:
        """``x`` on the format's grid, same shape; straight-through gradient."""
        return fake_quantize(x, self.qparams)


@dataclass(frozen=True)
class DynamicQuantizer:
    """Rounds to the minimum and maximum of each batch, as dynamic runtimes do.

    A batch with NaN or infinity is returned as it is, for the caller to notice. With a range per
    token, a sample does not depend on its batch: a token is what a linear layer multiplies, the
    last axis, and what a convolution sees of one sample.

    Attributes:
        fmt: the format.
        features_last: whether tokens lie along the last axis alone.
    """

    fmt: Format
    features_last: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        """``x`` on the grid of its own range, same shape; straight-through gradient."""
        if x.numel() == 0:
            return x
        # Two vectorised passes; torch.aminmax takes one and a half times as long.
        if self.fmt.granularity is Granularity.TOKEN:
            axes = (-1,) if self.features_last else tuple(range(min(1, x.dim() - 1), x.dim()))
            low, high = x.detach().amin(axes, keepdim=True), x.detach().amax(axes, keepdim=True)
        else:
            low, high = x.detach().amin(), x.detach().amax()
        if not bool(torch.isfinite(low + high).all()):
            return x
        return fake_quantize(x, qparams_from_range(low, high, self.fmt))


def check_activation_format(fmt: Format) -> None:
    """Raises UsageError for activation formats fitted to a tensor or with more than one scale."""
    if fmt.is_fitted:
        raise UsageError(
            f"activation format '{fmt}' fits its levels to a tensor that does not change",
            expected="a weight format there, or a range-based activation format",
            fix="write for example 'int8ut' or 'fp8e4m3'",
        )
    if not fmt.is_float and fmt.granularity not in (Granularity.TENSOR, Granularity.TOKEN):
        raise UsageError(
            f"activation format '{fmt}' has more than one scale",
            expected="granularity t: one scale per tensor, or k@dynamic: one per token",
            fix=f"write '{str(fmt).replace(str(fmt.granularity), 't', 1)}'"
            if fmt.granularity is Granularity.CHANNEL
            else "write for example 'int8ut'",
        )


def static_qparams(statistics: StreamingHistogram, fmt: Format, calibrator: Calibrator) -> QParams:
    """0-dim scale and zero point of a calibrated tensor, float32.

    Raises:
        UsageError: the format is dynamic or has more than one scale.
        DataError: the tensor was never seen.
    """
    check_activation_format(fmt)
    if fmt.timing is Timing.DYNAMIC:
        raise UsageError(f"activation format '{fmt}' has no fixed scale: it is dynamic")
    if statistics.count == 0 and not fmt.is_float:
        raise DataError(
            f"no calibration data reached {statistics.name or 'the tensor'}",
            expected="at least one batch that runs through the layer",
            fix="fix the layer in float, or calibrate with data that uses it",
        )
    low, high = calibrator.range(statistics.distribution(), fmt)
    return qparams_from_range(low[0].float(), high[0].float(), fmt, name=statistics.name)
