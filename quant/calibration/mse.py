"""Mean-squared-error calibration: the clipping range with the smallest quantization error.

Grid search as in OMSE (Choukroun et al., arXiv 1902.06822) on fractions of the data's range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from quant.calibration.base import Distribution, Range, squared_error
from quant.calibration.search import search_range
from quant.errors import UsageError
from quant.formats import Format


@dataclass(frozen=True)
class MeanSquaredError:
    """Searches the range on a grid; never worse than min-max on the same data.

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

        def loss(low: Tensor, high: Tensor) -> Tensor:
            return squared_error(data, low, high, fmt)

        return search_range(data, fmt, loss, self.candidates)
