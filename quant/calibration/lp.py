"""Lp calibration: the range with the smallest ``sum |x - Q(x)|^p``.

The first phase of LAPQ (Nahshan et al., arXiv 1911.07190): ``p = 2`` is the squared error, larger
``p`` gives large errors more weight, hence clips less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from quant.affine import fake_quantize, qparams_from_range
from quant.calibration.base import Distribution, Range
from quant.calibration.search import search_range
from quant.errors import UsageError
from quant.formats import Format


@dataclass(frozen=True)
class Lp:
    """Searches the range on a grid.

    Attributes:
        p: exponent, above 0.
        candidates: fractions of the data's range tried per sweep, at least 2.

    Raises:
        UsageError: the exponent or the number of candidates is out of range.
    """

    name: ClassVar[str] = "lp"
    p: float = 2.4
    candidates: int = 50

    def __post_init__(self) -> None:
        if self.p <= 0 or self.candidates < 2:
            raise UsageError(
                f"p = {self.p} with {self.candidates} candidates is not a search",
                expected="p above 0 and at least 2 candidates",
            )

    def range(self, data: Distribution, fmt: Format) -> Range:
        """See :meth:`quant.calibration.base.Calibrator.range`."""
        # In units of the peak, so that powers of tiny values do not vanish.
        unit = data.peak[:, None].clamp(min=1e-30)

        def loss(low: Tensor, high: Tensor) -> Tensor:
            qparams = qparams_from_range(low[:, None], high[:, None], fmt)
            error = (fake_quantize(data.values, qparams) - data.values) / unit
            return (error.abs().pow(self.p) * data.counts).sum(1)

        return search_range(data, fmt, loss, self.candidates)
