"""Moving average of batch extremes (Jacob et al., arXiv 1712.05877): ``m = 0.9 m + 0.1 max``.

One batch with an outlier moves the range by a tenth of it. The order of the batches matters.
Weights come in one piece, so that there the average is plain min-max.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from quant.calibration.base import Distribution, Range
from quant.formats import Format


@dataclass(frozen=True)
class MovingAverage:
    """Takes the averaged extremes that the statistics gathered."""

    name: ClassVar[str] = "average"

    def range(self, data: Distribution, fmt: Format) -> Range:
        """See :meth:`quant.calibration.base.Calibrator.range`."""
        return data.averaged or (data.low, data.high)
