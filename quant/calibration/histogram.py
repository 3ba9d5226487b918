"""Streamed statistics of an activation: extremes and a histogram that grows by itself.

Bins are ``2^k`` wide and aligned at zero. When a value does not fit, neighbouring bins merge
exactly in pairs, so the final histogram depends on the data only, never on the order or the
size of the batches. (The moving average of the batches' extremes does, by its definition.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from quant.affine import check_finite
from quant.calibration.base import Distribution

_NARROW = 2**31 - 1  # more values may overflow 32-bit counts, which weigh half as much
_HALF = 2048  # bins per side, as TensorRT has; the peak is resolved to 1/1024 or finer
_HALF_LOG2 = _HALF.bit_length() - 1
_MOMENTUM = 0.1  # weight of a new batch in the averaged extremes
_PIECE = 1 << 16  # values counted at a time
_SMALLEST = -110  # bin width 2^-110; narrower ones would overflow float32 when inverted


class StreamingHistogram:
    """Counts the values of batches of one tensor.

    Args:
        name: what the tensor is called in error messages.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.low = math.inf
        self.high = -math.inf
        self._averaged = (0.0, 0.0)
        self.count = 0
        self._zeros = 0
        self._exponent = _SMALLEST
        self._bins = torch.zeros(2 * _HALF, dtype=torch.int32)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Adds every element of ``x``, any shape; an empty tensor changes nothing.

        Raises:
            DataError: ``x`` holds NaN or infinity; nothing was added.
        """
        if x.numel() == 0:
            return
        low, high = (float(end) for end in torch.aminmax(x))
        if not math.isfinite(low + high):
            check_finite(x, self.name or "the tensor")
        self._grow(max(-low, high))
        self._average(low, high)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.count += x.numel()
        if self.count > _NARROW and self._bins.dtype is torch.int32:
            self._bins = self._bins.long()
        # In pieces: places are 64-bit, and those of a whole batch would outweigh its activations.
        for part in torch.split(x.detach().reshape(-1), _PIECE):
            self._zeros += part.numel() - int(torch.count_nonzero(part))
            place = torch.floor(part.float() * 2.0**-self._exponent).to(torch.int64)
            self._bins += torch.bincount(place.add_(_HALF), minlength=2 * _HALF).cpu()

    def distribution(self) -> Distribution:
        """The statistics as one slice, ``values [1, 1 + occupied bins]``, float64.

        The first point is exact zero. Bins are represented by their centres, the two
        outermost ones by the exact extremes.
        """
        nonzero = self._bins.long().clone()
        nonzero[_HALF] -= self._zeros
        occupied = nonzero.nonzero().squeeze(1)
        values = (occupied - _HALF + 0.5).double() * 2.0**self._exponent
        if len(values):
            # An extreme of exactly zero has its own point.
            values[0] = self.low if self.low else values[0]
            values[-1] = self.high if self.high else values[-1]
        values = torch.cat([values.new_zeros(1), values])
        counts = torch.cat([torch.tensor([self._zeros]), nonzero[occupied]]).double()
        low, high = _one(min(self.low, 0.0)), _one(max(self.high, 0.0))
        averaged = (_one(self._averaged[0]), _one(self._averaged[1]))
        return Distribution(values[None], counts[None], low, high, averaged)

    def _average(self, low: float, high: float) -> None:
        """Moves the averaged extremes, which start at those of the first batch."""
        share = _MOMENTUM if self.count else 1.0
        old_low, old_high = self._averaged
        self._averaged = (
            old_low + share * (min(low, 0.0) - old_low),
            old_high + share * (max(high, 0.0) - old_high),
        )

    def _grow(self, peak: float) -> None:
        """Widens the bins until a value of magnitude ``peak`` fits."""
        # peak < 2^e, so with bins of 2^(e - log2(half)) its index stays below half.
        shift = math.frexp(peak)[1] - _HALF_LOG2 - self._exponent if peak > 0 else 0
        if shift <= 0:
            return
        place = torch.arange(-_HALF, _HALF) >> min(shift, 62)
        self._bins = torch.zeros_like(self._bins).index_add_(0, place + _HALF, self._bins)
        self._exponent += shift


def _one(number: float) -> Tensor:
    return torch.tensor([number], dtype=torch.float64)
