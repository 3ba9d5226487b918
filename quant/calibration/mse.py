"""Mean-squared-error calibration: the clipping range with the smallest quantization error.

Grid search as in OMSE (Choukroun et al., arXiv 1902.06822) on fractions of the data's range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quant.calibration.base import Distribution, Range, is_symmetric, squared_error
from quant.errors import UsageError
from quant.formats import Format


@dataclass(frozen=True)
class MeanSquaredError:
    """Searches the range on a grid; never worse than min-max on the same data.

    Symmetric formats shrink their threshold. Asymmetric formats shrink both ends together,
    then the lower end alone, then the upper end alone; each sweep starts from the best so far.

    Attributes:
        candidates: number of fractions tried per sweep, evenly spaced in (0, 1].

    Raises:
        UsageError: fewer than two candidates.
    """

    name: ClassVar[str] = "mse"
    candidates: int = 100

    def __post_init__(self) -> None:
        if self.candidates < 2:
            raise UsageError(
                f"{self.candidates} candidates are not a search", expected="at least 2"
            )

    def range(self, data: Distribution, fmt: Format) -> Range:
        """See :meth:`quant.calibration.base.Calibrator.range`."""
        low, high = data.low, data.high
        low, high = self._sweep(data, fmt, low, high, (True, True))
        if is_symmetric(fmt) or not (bool(low.any()) and bool(high.any())):
            return low, high
        low, high = self._sweep(data, fmt, low, high, (True, False))
        return self._sweep(data, fmt, low, high, (False, True))

    def _sweep(
        self, data: Distribution, fmt: Format, low: Tensor, high: Tensor, sides: tuple[bool, bool]
    ) -> Range:
        """Best range among those whose named sides are shrunk; the given range is the first."""
        best_low, best_high = low, high
        best = squared_error(data, low, high, fmt)
        for step in range(self.candidates - 1, 0, -1):
            share = step / self.candidates
            trial_low, trial_high = _shrink(data, fmt, low, high, share, sides)
            error = squared_error(data, trial_low, trial_high, fmt)
            better = error < best
            best = torch.where(better, error, best)
            best_low = torch.where(better, trial_low, best_low)
            best_high = torch.where(better, trial_high, best_high)
        return best_low, best_high


def _shrink(
    data: Distribution,
    fmt: Format,
    low: Tensor,
    high: Tensor,
    share: float,
    sides: tuple[bool, bool],
) -> Range:
    if is_symmetric(fmt):
        threshold = data.peak * share
        return torch.maximum(low, -threshold), torch.minimum(high, threshold)
    return low * share if sides[0] else low, high * share if sides[1] else high
