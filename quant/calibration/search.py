"""Search over clipping ranges, shared by the calibrators that minimise a loss."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from quant.calibration.base import Distribution, Range, is_symmetric, symmetric_range
from quant.formats import Format

Loss = Callable[[Tensor, Tensor], Tensor]
Clip = Callable[[Range, float], Range]


def search_range(data: Distribution, fmt: Format, loss: Loss, candidates: int) -> Range:
    """Range with the smallest loss on a grid; never worse than the data's own range.

    Symmetric formats shrink their threshold. Asymmetric formats shrink both ends together,
    then the lower end alone, then the upper end alone; each sweep starts from the best so far.
    Of equal losses the widest range wins.

    Args:
        data: the slices.
        fmt: the format the range is for.
        loss: ``(low[S], high[S]) -> [S]``.
        candidates: fractions tried per sweep, evenly spaced in (0, 1].
    """
    full = (data.low, data.high)
    if is_symmetric(fmt):
        return _sweep(
            full, lambda _, share: symmetric_range(data, data.peak * share), loss, candidates
        )
    best = _sweep(full, lambda r, share: (r[0] * share, r[1] * share), loss, candidates)
    if not (bool(data.low.any()) and bool(data.high.any())):
        return best  # one-sided data: the other end is zero whatever its share
    best = _sweep(best, lambda r, share: (r[0] * share, r[1]), loss, candidates)
    return _sweep(best, lambda r, share: (r[0], r[1] * share), loss, candidates)


def _sweep(start: Range, clip: Clip, loss: Loss, candidates: int) -> Range:
    """Best of ``start`` and of clipping it to every fraction, for each slice on its own."""
    low, high = start
    best = loss(low, high)
    for step in range(candidates - 1, 0, -1):
        trial_low, trial_high = clip(start, step / candidates)
        trial = loss(trial_low, trial_high)
        better = trial < best
        best = torch.where(better, trial, best)
        low = torch.where(better, trial_low, low)
        high = torch.where(better, trial_high, high)
    return low, high
