"""Scores made to behave: not negative, and not rising with finer choices.

Solvers are exact for any finite score, so they also exploit noise exactly: one negative score
from a small calibration set is worth more to them than any real saving. Additive fronts need
repaired scores; judges of whole policies may keep the sign.
"""

from __future__ import annotations

import warnings

import numpy as np

from search.solvers.problem import Floats


def repair_scores(score: Floats, fineness: Floats | None = None) -> tuple[Floats, int]:
    """Nearest scores, in squares, that are non-negative and do not rise with fineness.

    Warns with the count when anything had to change.

    Args:
        score: ``float[groups, choices]``, NaN where nothing is offered.
        fineness: same shape, for example bits; equally fine choices are not compared. None
            only removes negative scores.

    Returns:
        Repaired scores and how many entries changed.
    """
    repaired = np.array(score, dtype=np.float64)
    if fineness is not None:
        for group, row in enumerate(repaired):
            offered = np.flatnonzero(~np.isnan(row))
            # Equally fine choices come in falling order, which asks nothing of them.
            order = offered[np.lexsort((-row[offered], fineness[group, offered]))]
            row[order] = _falling(row[order])
    repaired = np.maximum(repaired, 0.0)
    offered_all = ~np.isnan(repaired)
    count = int((repaired != score)[offered_all].sum())
    if count:
        warnings.warn(
            f"{count} of {int(offered_all.sum())} scores were negative or rose with finer "
            "choices and were repaired; more calibration samples make this rarer",
            stacklevel=2,
        )
    return repaired, count


def _falling(values: Floats) -> Floats:
    """Non-increasing values closest in squares: pool adjacent violators (Ayer et al., 1955)."""
    blocks: list[tuple[float, int]] = []
    for value in values:
        mean, size = float(value), 1
        while blocks and blocks[-1][0] < mean:
            above, count = blocks.pop()
            mean = (above * count + mean * size) / (count + size)
            size += count
        blocks.append((mean, size))
    return np.repeat([mean for mean, _ in blocks], [size for _, size in blocks])
