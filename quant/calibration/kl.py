"""Entropy calibration: the clipping range that loses least information.

Migacz, "8-bit inference with TensorRT" (GTC 2017): the histogram with its outliers moved into
the end bins (P) is compared with the same histogram seen through the quantizer (Q); the range
with the smallest ``KL(P || Q)`` wins. Meant for slices with thousands of values, such as
activations; on a few dozen values a histogram says little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quant.affine import qparams_from_range, quantize
from quant.calibration.base import Distribution, Range
from quant.calibration.search import search_range
from quant.errors import UsageError
from quant.formats import Format

# Share of the mass given to a bin that Q misses; keeps the divergence finite.
_FLOOR = 1e-6
_FEWEST_BINS = 16


@dataclass(frozen=True)
class Entropy:
    """Searches the range by KL divergence.

    Attributes:
        candidates: number of fractions of the data's range tried, evenly spaced in (0, 1].
        bins: histogram bins over the range of each slice, at most; never more than the slice
            has points (but at least 16).

    Raises:
        UsageError: fewer than two candidates or fewer than 16 bins.
    """

    name: ClassVar[str] = "kl"
    candidates: int = 100
    bins: int = 2048

    def __post_init__(self) -> None:
        if self.candidates < 2 or self.bins < _FEWEST_BINS:
            raise UsageError(
                f"{self.candidates} candidates on {self.bins} bins are not a search",
                expected="at least 2 candidates and 16 bins",
            )

    def range(self, data: Distribution, fmt: Format) -> Range:
        """See :meth:`quant.calibration.base.Calibrator.range`."""
        bins = min(self.bins, max(_FEWEST_BINS, data.values.shape[1]))
        histogram, centres = _histogram(data, bins)

        def loss(low: Tensor, high: Tensor) -> Tensor:
            return _divergence(histogram, centres, low, high, fmt)

        return search_range(data, fmt, loss, self.candidates)


def _histogram(data: Distribution, bins: int) -> tuple[Tensor, Tensor]:
    """Counts ``[S, bins]`` and bin centres ``[S, bins]`` over each slice's range.

    Exact zeros are left out: every format represents them exactly, and after a ReLU their
    spike would hide everything else.
    """
    width = (data.high - data.low)[:, None].double() / bins
    width = torch.where(width > 0, width, torch.ones_like(width))
    place = ((data.values - data.low[:, None]) / width).long().clamp(0, bins - 1)
    counts = data.counts.double() * (data.values != 0)
    histogram = counts.new_zeros(len(place), bins).scatter_add_(1, place, counts)
    steps = torch.arange(bins, dtype=torch.float64, device=width.device) + 0.5
    return histogram, data.low[:, None] + steps * width


def _divergence(
    histogram: Tensor, centres: Tensor, low: Tensor, high: Tensor, fmt: Format
) -> Tensor:
    """``KL(P || Q)`` of clipping slices to ``[low, high]``, ``[S]``; inf if nothing is left."""
    low, high = low[:, None].double(), high[:, None].double()
    inside = (centres >= low) & (centres <= high)
    kept = histogram * inside
    codes = quantize(centres, qparams_from_range(low, high, fmt)).long() - fmt.qmin
    reference = _with_outliers(histogram, inside)
    seen = _through_codes(kept, codes, fmt.qmax - fmt.qmin + 1)
    share_p = reference / reference.sum(dim=1, keepdim=True).clamp(min=1)
    share_q = seen / seen.sum(dim=1, keepdim=True).clamp(min=1)
    terms = torch.special.xlogy(share_p, share_p / share_q.clamp(min=_FLOOR))
    nothing = kept.sum(dim=1) == 0
    return torch.where(nothing, torch.full_like(terms[:, 0], torch.inf), terms.sum(dim=1))


def _with_outliers(histogram: Tensor, inside: Tensor) -> Tensor:
    """Moves the counts outside into the first and last inside bin."""
    bins = histogram.shape[1]
    first = inside.double().argmax(dim=1, keepdim=True)
    last = bins - 1 - inside.flip(1).double().argmax(dim=1, keepdim=True)
    place = torch.arange(bins, device=histogram.device).expand_as(histogram)
    place = torch.minimum(torch.maximum(place, first), last)
    return torch.zeros_like(histogram).scatter_add_(1, place, histogram)


def _through_codes(kept: Tensor, codes: Tensor, levels: int) -> Tensor:
    """Spreads the counts of each code evenly over its occupied bins."""
    occupied = (kept > 0).double()
    mass = kept.new_zeros(len(kept), levels).scatter_add_(1, codes, kept)
    size = kept.new_zeros(len(kept), levels).scatter_add_(1, codes, occupied)
    return (mass / size.clamp(min=1)).gather(1, codes) * occupied
