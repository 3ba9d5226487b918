"""Range estimation: what a calibrator is given and what it answers.

Weights and activations take the same road. Both become a :class:`Distribution`, weighted
points per slice: for a weight the elements themselves, for an activation the bins of a
histogram that was streamed over the calibration data. One data pass therefore serves every
format and every calibrator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from quant.affine import check_finite, fake_quantize, qparams_from_range
from quant.formats import Format, Scheme

Range = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Distribution:
    """Weighted points of ``S`` independent slices.

    Attributes:
        values: points, ``[S, n]``, in any order; ``n`` may be 0.
        counts: weight of each point, broadcastable to ``[S, n]``; 0 for unused points.
        low: smallest value or 0, whichever is lower, ``[S]``.
        high: largest value or 0, whichever is higher, ``[S]``.
        averaged: moving average of the extremes of the batches, or None without batches.
    """

    values: Tensor
    counts: Tensor
    low: Tensor
    high: Tensor
    averaged: Range | None = None

    @staticmethod
    def of_slices(slices: Tensor, *, name: str = "") -> Distribution:
        """Takes every element of ``slices [S, n]`` as one point.

        Raises:
            DataError: an element is NaN or infinite; the message names ``name``.
        """
        check_finite(slices, name or "the tensor")
        counts = slices.new_ones(1, 1)
        if slices.shape[1] == 0:
            zeros = slices.new_zeros(slices.shape[0])
            return Distribution(slices, counts, zeros, zeros)
        low, high = torch.aminmax(slices, dim=1)
        return Distribution(slices, counts, low.clamp(max=0), high.clamp(min=0))

    @property
    def peak(self) -> Tensor:
        """Largest magnitude, ``[S]``."""
        return torch.maximum(-self.low, self.high)


class Calibrator(Protocol):
    """Chooses the range that a format shall cover.

    Attributes:
        name: the calibrator's name in configurations.
    """

    name: ClassVar[str]

    def range(self, data: Distribution, fmt: Format) -> Range:
        """Returns ``low[S] <= 0 <= high[S]``, within the range of the data.

        For symmetric formats the threshold is ``max(-low, high)``. Slices without points
        answer (0, 0). ``low`` is exactly 0 for data without negative values, so that the
        zero point of an asymmetric format is 0 there.
        """
        ...


def squared_error(data: Distribution, low: Tensor, high: Tensor, fmt: Format) -> Tensor:
    """Sum of squared errors of quantizing every slice with its range, ``[S]``."""
    qparams = qparams_from_range(low[:, None], high[:, None], fmt)
    error = fake_quantize(data.values, qparams) - data.values
    return error.square_().mul_(data.counts).sum(dim=1)


def symmetric_range(data: Distribution, threshold: Tensor) -> Range:
    """``[-threshold[S], threshold[S]]`` cut to the range of the data."""
    return torch.maximum(data.low, -threshold), torch.minimum(data.high, threshold)


def is_symmetric(fmt: Format) -> bool:
    """True when one threshold describes the range."""
    return fmt.scheme is not Scheme.ASYMMETRIC
