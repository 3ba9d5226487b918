"""Min-max calibration: the range is what was seen (Krishnamoorthi, arXiv 1806.08342)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from quant.calibration.base import Distribution, Range
from quant.formats import Format


@dataclass(frozen=True)
class MinMax:
    """Covers every value; nothing is clipped."""

    name: ClassVar[str] = "minmax"

    def range(self, data: Distribution, fmt: Format) -> Range:
        """See :meth:`quant.calibration.base.Calibrator.range`."""
        return data.low, data.high
