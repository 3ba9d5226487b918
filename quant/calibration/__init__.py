"""Calibrators: which range a format shall cover, from weights or from streamed activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from quant.calibration.aciq import AciqGaussian, AciqLaplace
from quant.calibration.average import MovingAverage
from quant.calibration.base import Calibrator, Distribution, Range
from quant.calibration.histogram import StreamingHistogram
from quant.calibration.kl import Entropy
from quant.calibration.lp import Lp
from quant.calibration.minmax import MinMax
from quant.calibration.mse import MeanSquaredError
from quant.calibration.percentile import Percentile
from quant.calibration.weighted_entropy import WeightedEntropy
from quant.errors import unknown

CALIBRATORS: Mapping[str, Callable[[float], Calibrator]] = {
    "minmax": lambda _: MinMax(),
    "percentile": Percentile,
    "mse": lambda _: MeanSquaredError(),
    "kl": lambda _: Entropy(),
    "average": lambda _: MovingAverage(),
    "aciq_laplace": lambda _: AciqLaplace(),
    "aciq_gaussian": lambda _: AciqGaussian(),
    "wentropy": lambda _: WeightedEntropy(),
    "lp": lambda _: Lp(),
}

__all__ = [
    "CALIBRATORS",
    "AciqGaussian",
    "AciqLaplace",
    "Calibrator",
    "Distribution",
    "Entropy",
    "Lp",
    "MeanSquaredError",
    "MinMax",
    "MovingAverage",
    "Percentile",
    "Range",
    "StreamingHistogram",
    "WeightedEntropy",
    "calibrator",
]


def calibrator(name: str, *, percentile: float = 99.9, where: str = "") -> Calibrator:
    """Builds the calibrator of a name in :data:`CALIBRATORS`.

    Raises:
        UsageError: unknown name, with the nearest match, or a percentile out of range.
    """
    if name not in CALIBRATORS:
        raise unknown("calibrator", name, CALIBRATORS, where=where)
    return CALIBRATORS[name](percentile)
