"""Changing scales with integers alone: ``q m / 2^k`` (HAWQ-V3, Yao et al., arXiv 2011.10680)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from quant.errors import UsageError

MULTIPLIER_BITS = 31
INT32 = (1 << 31) - 1


@dataclass(frozen=True)
class Dyadic:
    """``m / 2^k``, elementwise.

    Attributes:
        multiplier: int64, below ``2^31`` in magnitude.
        shift: int64, 0 .. 62, same shape.
    """

    multiplier: Tensor
    shift: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """``round(x m / 2^k)``, halves up; int64, exact while ``|x| < 2^31``."""
        half = (torch.ones_like(self.shift) << self.shift) >> 1
        return (x.long() * self.multiplier + half) >> self.shift

    @property
    def value(self) -> Tensor:
        """The ratio it stands for, float64; for people and tests."""
        return self.multiplier.double() / torch.pow(2.0, self.shift.double())


def dyadic(ratio: Tensor | float) -> Dyadic:
    """The nearest dyadic number with a 31-bit multiplier.

    The relative error is at most ``2^-31``, so a value below ``2^30`` is off by less than half a
    step beyond its rounding: at most one step together.

    Raises:
        UsageError: a ratio is not positive and finite, or above ``2^31``.
    """
    flat = torch.as_tensor(ratio, dtype=torch.float64)
    multipliers, shifts = [], []
    for value in flat.reshape(-1).tolist():
        if not (math.isfinite(value) and 0 < value < 2**MULTIPLIER_BITS):
            raise UsageError(
                f"a scale ratio is {value}", where="integer", expected="a number above 0"
            )
        # frexp: value = mantissa 2^exponent with mantissa in [1/2, 1).
        exponent = math.frexp(value)[1]
        shift = min(MULTIPLIER_BITS - exponent, 62)
        multiplier = round(math.ldexp(value, shift))
        if multiplier == 1 << MULTIPLIER_BITS:
            multiplier, shift = multiplier >> 1, shift - 1
        multipliers.append(multiplier)
        shifts.append(shift)
    shape = flat.shape
    return Dyadic(
        torch.tensor(multipliers, dtype=torch.int64).reshape(shape),
        torch.tensor(shifts, dtype=torch.int64).reshape(shape),
    )
