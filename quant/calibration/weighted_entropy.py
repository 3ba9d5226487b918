"""Weighted entropy: more levels where values matter more (Park et al., CVPR 2017).

The importance of a value is its square. The range is the one whose levels share the importance
most evenly: it maximises ``-sum P_n log P_n``, with ``P_n`` the share of level ``n``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quant.affine import qparams_from_range, quantize
from quant.calibration.base import Distribution, Range
from quant.calibration.search import search_range
from quant.formats import Format


@dataclass(frozen=True)
class WeightedEntropy:
    """Searches the range on a grid.

    Attributes:
        candidates: fractions of the data's range tried per sweep, at least 2.
    """

    name: ClassVar[str] = "wentropy"
    candidates: int = 100

    def range(self, data: Distribution, fmt: Format) -> Range:
        """See :meth:`quant.calibration.base.Calibrator.range`."""

        def loss(low: Tensor, high: Tensor) -> Tensor:
            return -weighted_entropy(data, low, high, fmt)

        return search_range(data, fmt, loss, self.candidates)


def weighted_entropy(data: Distribution, low: Tensor, high: Tensor, fmt: Format) -> Tensor:
    """Entropy of importance over the levels of a range, ``[S]``, in nats; 0 without points."""
    qparams = qparams_from_range(low[:, None], high[:, None], fmt)
    codes = quantize(data.values, qparams).long() - fmt.qmin
    # Scaled by the peak, so that squares of tiny values do not vanish.
    peak = data.peak[:, None].clamp(min=torch.finfo(data.values.dtype).tiny)
    importance = (data.values / peak).double().square() * data.counts
    levels = importance.new_zeros(len(codes), fmt.qmax - fmt.qmin + 1)
    mass = levels.scatter_add_(1, codes, importance)
    share = mass / mass.sum(1, keepdim=True).clamp(min=1e-300)
    entropy: Tensor = -torch.special.xlogy(share, share).sum(1)
    return entropy
