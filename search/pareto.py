"""Fronts in two minimised objectives: nondominated points, hypervolume, knee.

Hypervolume in two dimensions is the area between the front and a fixed reference point
(Zitzler and Thiele, 1998). A point on or beyond the reference adds nothing. NaN is never
nondominated.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def front_indices(points: Floats) -> Ints:
    """Indices of the nondominated rows of ``points[n, 2]``, by rising first objective.

    Of exactly equal points the first one is kept. Rows with NaN are ignored.
    """
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    usable = np.flatnonzero(~np.isnan(points).any(axis=1))
    order = usable[np.lexsort((usable, points[usable, 1], points[usable, 0]))]
    if not len(order):
        return order.astype(np.int64)
    best = np.minimum.accumulate(points[order, 1])
    keep = np.r_[True, points[order, 1][1:] < best[:-1]]
    return order[keep].astype(np.int64)


def hypervolume(points: Floats, reference: Floats) -> float:
    """Area dominated by ``points[n, 2]`` and bounded by ``reference[2]``; 0 for none inside."""
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    reference = np.asarray(reference, dtype=np.float64)
    inside = points[(points < reference).all(axis=1)]
    front = inside[front_indices(inside)]
    if not len(front):
        return 0.0
    widths = np.diff(np.r_[front[:, 0], reference[0]])
    return float(np.sum(widths * (reference[1] - front[:, 1])))


def normalised_hypervolume(points: Floats, ideal: Floats, reference: Floats) -> float:
    """Hypervolume as a share, 0..1, of the box between ``ideal[2]`` and ``reference[2]``.

    Points beyond the ideal are moved onto it, so that the share never exceeds 1.
    """
    span = np.asarray(reference, dtype=np.float64) - np.asarray(ideal, dtype=np.float64)
    if not (span > 0).all():
        return 0.0
    shifted = (np.asarray(points, dtype=np.float64).reshape(-1, 2) - ideal) / span
    return hypervolume(np.maximum(shifted, 0.0), np.ones(2))


def anytime_hypervolume(points: Floats, ideal: Floats, reference: Floats) -> Floats:
    """Normalised hypervolume after each of the first ``k`` points, ``float[n]``."""
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    values = np.empty(len(points))
    front = np.empty((0, 2))
    last = 0.0
    for index, point in enumerate(points):
        dominated = np.isnan(point).any() or bool((front <= point).all(axis=1).any())
        if not dominated:
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
            last = normalised_hypervolume(front, ideal, reference)
        values[index] = last
    return values


def knee_index(points: Floats) -> int:
    """Row of ``points[n, 2]`` farthest below the chord between the ends of the front.

    Both axes are normalised to the front's own range first. Fronts of one or two points
    return the middle-most one (index 0).
    """
    front = front_indices(points)
    if len(front) < 3:
        return int(front[0])
    chosen = np.asarray(points, dtype=np.float64)[front]
    low, high = chosen.min(axis=0), chosen.max(axis=0)
    unit = (chosen - low) / np.where(high > low, high - low, 1.0)
    # After normalisation the chord runs from (0, 1) to (1, 0): x + y = 1.
    return int(front[int(np.argmin(unit.sum(axis=1)))])
