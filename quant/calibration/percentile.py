"""Percentile calibration: a fixed share of the values is clipped.

McKinstry et al., arXiv 1809.04191.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quant.calibration.base import Distribution, Range, is_symmetric, symmetric_range
from quant.errors import UsageError
from quant.formats import Format


@dataclass(frozen=True)
class Percentile:
    """Covers the central values.

    Symmetric formats: the threshold is the percentile of ``|x|``. Asymmetric formats: the
    range runs from percentile ``100 - percentile`` to ``percentile`` of ``x``.

    Attributes:
        percentile: 50 < percentile <= 100; 100 is min-max.

    Raises:
        UsageError: the percentile is out of range.
    """

    name: ClassVar[str] = "percentile"
    percentile: float = 99.9

    def __post_init__(self) -> None:
        if not 50 < self.percentile <= 100:
            raise UsageError(
                f"percentile {self.percentile} is out of range", expected="50 < percentile <= 100"
            )

    def range(self, data: Distribution, fmt: Format) -> Range:
        """See :meth:`quant.calibration.base.Calibrator.range`."""
        share = self.percentile / 100
        if is_symmetric(fmt):
            return symmetric_range(data, quantile(data.values.abs(), data.counts, share))
        low = quantile(data.values, data.counts, 1 - share)
        high = quantile(data.values, data.counts, share)
        return low.clamp(max=0), high.clamp(min=0)


def quantile(values: Tensor, counts: Tensor, share: float) -> Tensor:
    """Quantile of the points ``values[S, n]`` repeated ``counts`` times each, ``[S]``.

    Equals ``torch.quantile`` (linear interpolation) of the expanded sample; 0 when a slice has
    no points.
    """
    if values.shape[1] == 0:
        return values.new_zeros(values.shape[0])
    ordered, order = values.sort(dim=1)
    cumulative = counts.double().expand_as(values).gather(1, order).cumsum(dim=1)
    total = cumulative[:, -1:]
    position = (total - 1).clamp(min=0) * share
    below = _at(ordered, cumulative, position.floor())
    above = _at(ordered, cumulative, torch.minimum(position.floor() + 1, total - 1))
    result = torch.lerp(below, above, (position - position.floor()).to(values.dtype))
    return torch.where(total > 0, result, torch.zeros_like(result)).squeeze(1)


def _at(ordered: Tensor, cumulative: Tensor, index: Tensor) -> Tensor:
    """Element ``index [S, 1]`` of each expanded, ordered slice."""
    place = torch.searchsorted(cumulative, index, right=True)
    return ordered.gather(1, place.clamp(max=ordered.shape[1] - 1))
