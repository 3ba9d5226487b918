"""Intervals and comparisons used by records and reports. numpy only."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
BITS_PER_NAT = 1 / math.log(2)
Z95 = 1.959963984540054


def wilson(successes: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson, 1927); (0, 1) when there are no samples."""
    if n <= 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap(
    values: Floats,
    rng: np.random.Generator,
    statistic: Callable[..., Floats] = np.median,
    resamples: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of ``statistic`` over ``values[n]``.

    ``statistic`` takes ``axis``. One value gives an interval of zero width.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        return math.nan, math.nan
    draws = rng.integers(0, len(values), size=(resamples, len(values)))
    estimates = statistic(values[draws], axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(estimates, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_pairs(
    first: Floats,
    second: Floats,
    rng: np.random.Generator,
    statistic: Callable[[Floats, Floats], float],
    resamples: int = 500,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic of pairs ``[n]``; NaN where undefined."""
    draws = rng.integers(0, len(first), size=(resamples, len(first)))
    estimates = np.array([statistic(first[draw], second[draw]) for draw in draws])
    if np.isnan(estimates).all():
        return math.nan, math.nan
    tail = (1 - level) / 2
    low, high = np.nanquantile(estimates, [tail, 1 - tail])
    return float(low), float(high)


def kendall_tau(first: Floats, second: Floats) -> float:
    """Kendall's tau-b of two rankings ``[n]``; NaN when one of them is constant."""
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    upper = np.triu_indices(len(x), 1)
    dx = np.sign(x[:, None] - x[None, :])[upper]
    dy = np.sign(y[:, None] - y[None, :])[upper]
    scale = math.sqrt(float((dx != 0).sum()) * float((dy != 0).sum()))
    return float((dx * dy).sum() / scale) if scale else math.nan


def spearman(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation with average ranks for ties; NaN when one is constant."""
    x, y = _ranks(np.asarray(first)), _ranks(np.asarray(second))
    if x.std() == 0 or y.std() == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]
