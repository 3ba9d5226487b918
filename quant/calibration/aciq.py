"""Analytic clipping: the threshold that is optimal for a Gaussian or a Laplace distribution.

Banner et al., ACIQ, arXiv 1810.05723. The expected squared error of clipping at ``a`` with
``2^M`` levels is clipping noise plus ``a^2 / (3 * 4^M)`` of rounding noise; its minimiser is a
multiple of the distribution's width that depends on ``M`` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from quant.calibration.base import Distribution, Range, is_symmetric, symmetric_range
from quant.formats import Format


@dataclass(frozen=True)
class Aciq:
    """Clips where a fitted distribution says so; needs two sums, no search.

    Symmetric formats fit around zero, asymmetric ones around the mean. Data of one sign under
    an asymmetric format counts as one half of a distribution around zero, so that the grid has
    one bit more than its width says.

    Attributes:
        gaussian: fit the standard deviation of a Gaussian, else the mean absolute deviation of
            a Laplace distribution.
    """

    name: ClassVar[str]
    gaussian: ClassVar[bool]

    def range(self, data: Distribution, fmt: Format) -> Range:
        """See :meth:`quant.calibration.base.Calibrator.range`."""
        one_sided = (data.low == 0) | (data.high == 0)
        zero = one_sided | torch.full_like(one_sided, is_symmetric(fmt))
        mean = torch.where(zero, torch.zeros_like(data.low), _mean(data.values, data))
        width = self._width(data, mean)
        if is_symmetric(fmt):
            return symmetric_range(data, width * clip_ratio(fmt.bits, self.gaussian))
        half, whole = (clip_ratio(fmt.bits + bits, self.gaussian) for bits in (1, 0))
        reach = width * torch.where(one_sided, half, whole)
        low, high = (mean - reach).clamp(max=0), (mean + reach).clamp(min=0)
        return torch.maximum(low, data.low), torch.minimum(high, data.high)

    def _width(self, data: Distribution, mean: Tensor) -> Tensor:
        distance = data.values - mean[:, None]
        if self.gaussian:
            return _mean(distance.square(), data).sqrt()
        return _mean(distance.abs(), data)


@dataclass(frozen=True)
class AciqLaplace(Aciq):
    """Clips as is best for a Laplace distribution."""

    name: ClassVar[str] = "aciq_laplace"
    gaussian: ClassVar[bool] = False


@dataclass(frozen=True)
class AciqGaussian(Aciq):
    """Clips as is best for a Gaussian."""

    name: ClassVar[str] = "aciq_gaussian"
    gaussian: ClassVar[bool] = True


@lru_cache(maxsize=64)
def clip_ratio(bits: int, gaussian: bool) -> float:
    """Optimal threshold in units of the standard deviation, or of Laplace's ``b``.

    Found by golden-section search; the error has one minimum.
    """
    error: Callable[[float, int], float] = gaussian_error if gaussian else laplace_error
    low, high, shrink = 0.0, 30.0, (math.sqrt(5) - 1) / 2
    while high - low > 1e-9:
        left, right = high - shrink * (high - low), low + shrink * (high - low)
        if error(left, bits) < error(right, bits):
            high = right
        else:
            low = left
    return (low + high) / 2


def laplace_error(a: float, bits: int) -> float:
    """Expected squared error of a Laplace variable of ``b = 1`` clipped at ``a``."""
    return 2 * math.exp(-a) + a * a / (3 * 4.0**bits)


def gaussian_error(a: float, bits: int) -> float:
    """Expected squared error of a standard normal variable clipped at ``a``."""
    tail = (1 + a * a) * math.erfc(a / math.sqrt(2))
    return tail - a * math.sqrt(2 / math.pi) * math.exp(-a * a / 2) + a * a / (3 * 4.0**bits)


def _mean(values: Tensor, data: Distribution) -> Tensor:
    """Weighted mean of each slice, ``[S]``; 0 without points."""
    # In float64, so that the sum of a slice does not depend on how many are summed at once.
    counts = data.counts.expand_as(values).double()
    return ((values * counts).sum(1) / counts.sum(1).clamp(min=1)).to(values.dtype)
