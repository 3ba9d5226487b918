"""Nondominated columns of integer vectors, and thinning with a bound on what is lost.

Points are ``int[d, n]``: one row per cost, the score last, all minimised. Two rows are pruned
by a sort and a running minimum; three by a divide-and-conquer sweep (Kung, Luccio and
Preparata, 1975) done level by level on whole arrays; more by comparing blocks with the points
already kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BLOCK = 256
EDGES = 1024


def nondominated(points: Ints) -> Ints:
    """Indices of the nondominated columns of ``points[d, n]``, by rising first row.

    Of equal columns the first is kept.
    """
    if len(points) == 2:
        return _staircase(points[0], points[1])
    order = np.lexsort(points[::-1])
    if len(points) == 3:
        return order[~_dominated_by_earlier(points[1][order], points[2][order])]
    return order[_kept_in_blocks(points[1:, order])]


def screen(runs: Sequence[Ints]) -> list[Ints]:
    """Positions in each run that may be nondominated among all of them; cheap and incomplete.

    Most candidates of a merge are far from the front. The least score within each of about
    1000 costs, over all runs, rules them out without sorting them. Points equal to another
    one are never ruled out here, so which of them is kept does not depend on this step.

    Args:
        runs: ``int[d, n]`` each; with two rows sorted by rising cost and falling score.
    """
    if len(runs[0]) != 2:
        return [np.arange(run.shape[1]) for run in runs]
    longest = max(runs, key=lambda run: run.shape[1])[0]
    edges = longest[:: max(1, len(longest) // EDGES)]
    within = [np.searchsorted(run[0], edges, side="right") for run in runs]
    lowest = np.full(len(edges) + 1, np.iinfo(np.int64).max)
    for run, count in zip(runs, within, strict=True):
        scores = np.where(count > 0, run[1, count - 1], lowest[0])
        np.minimum(lowest[1:], scores, out=lowest[1:])
    bounds = (
        np.repeat(lowest, np.diff(np.concatenate(([0], count, [run.shape[1]]))))
        for run, count in zip(runs, within, strict=True)
    )
    return [np.flatnonzero(run[1] <= bound) for run, bound in zip(runs, bounds, strict=True)]


def _staircase(cost: Ints, score: Ints) -> Ints:
    # A stable sort merges the ready-sorted runs a front is extended by in linear time.
    order = np.argsort(cost, kind="stable")
    falling = score[order]
    lowest = np.minimum.accumulate(falling)
    order = order[np.r_[True, falling[1:] < lowest[:-1]]]
    # Of points at equal cost the last one that still lowered the score is the best.
    ascending = cost[order]
    return order[np.r_[ascending[1:] != ascending[:-1], True]]


def _dominated_by_earlier(second: Ints, third: Ints) -> Bools:
    """Whether an earlier column is no greater in both rows; columns are in lexical order.

    Level ``b`` compares the right half of every block of ``2 b`` columns with its left half:
    sorted by the second row, the running minimum of the left halves' third row tells.
    """
    n = len(second)
    rank = np.unique(second, return_inverse=True)[1]
    value = np.unique(third, return_inverse=True)[1]
    dominated = np.zeros(n, dtype=np.bool_)
    active = np.arange(n)
    half = 1
    while half < n:
        block = active // (2 * half)
        active = active[np.argsort(block * n + rank[active], kind="stable")]
        block, left = active // (2 * half), (active // half) % 2 == 0
        # Offsets that fall from block to block restart the running minimum in each.
        lowest = np.minimum.accumulate(np.where(left, value[active], n) - block * (n + 1))
        lost = ~left & (lowest + block * (n + 1) <= value[active])
        dominated[active[lost]] = True
        active = active[~lost]
        half *= 2
    return dominated


def _kept_in_blocks(points: Ints) -> Ints:
    """Positions no earlier column dominates, for lexically ordered columns of any height."""
    kept = np.empty(0, dtype=np.int64)
    for start in range(0, points.shape[1], BLOCK):
        block = points[:, start : start + BLOCK]
        fresh = np.flatnonzero(~_covers(points[:, kept], block).any(axis=0))
        among = np.triu(_covers(block[:, fresh], block[:, fresh]), k=1).any(axis=0)
        kept = np.r_[kept, start + fresh[~among]]
    return kept


def _covers(some: Ints, others: Ints) -> Bools:
    """``bool[m, n]``: whether column i of ``some`` is no greater than column j of ``others``."""
    result = np.ones((some.shape[1], others.shape[1]), dtype=np.bool_)
    for row, other in zip(some, others, strict=True):
        result &= row[:, None] <= other[None, :]
    return result


def thin(points: Ints, widths: Ints) -> tuple[Ints, Ints]:
    """Keeps, in each box of the costs, the best score and the cheapest of every cost.

    Any point that is dropped has a kept one in its box with no worse score.

    Args:
        points: ``int[K + 1, n]``, mutually nondominated.
        widths: ``int[K]`` box widths, 0 for a row that is not divided.

    Returns:
        Kept positions in order, and the largest overshoot of each cost, ``int[K]``: how much
        more the best point of a box costs than a dropped one.
    """
    costs = points[:-1]
    low = costs.min(axis=1, keepdims=True)
    cells = (costs - low) // np.maximum(widths, 1)[:, None]
    box = _box_ids(np.where(widths[:, None] > 0, cells, costs - low))
    keep = np.zeros(points.shape[1], dtype=np.bool_)
    for row in costs:
        keep[_first_of_box(box, row)] = True
    best = _first_of_box(box, points[-1])
    keep[best] = True
    dropped = ~keep
    over = costs[:, best[box[dropped]]] - costs[:, dropped]
    return np.flatnonzero(keep), over.max(axis=1, initial=0)


def _box_ids(cells: Ints) -> Ints:
    """Consecutive ids of equal columns."""
    ids = np.zeros(cells.shape[1], dtype=np.int64)
    for row in cells:
        rank = np.unique(row, return_inverse=True)[1]
        ids = np.unique(ids * (int(rank.max()) + 1) + rank, return_inverse=True)[1]
    return ids


def _first_of_box(box: Ints, key: Ints) -> Ints:
    """For each box id, the position with the least key."""
    order = np.lexsort((key, box))
    return order[np.r_[True, np.diff(box[order]) > 0]]
