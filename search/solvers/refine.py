"""Local search around a front when the loss does not add up over groups.

A surrogate with interactions has no exact front. Starting from the points of an additive front,
every point is changed in one group (1-opt) and in two groups of which one gets cheaper by at
least what the other gets dearer (cost-neutral 2-opt); what is nondominated is kept, and the
neighbourhoods of new points are searched in turn. Pairs are screened by the sum of their single
effects, because there are too many of them to predict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from search.pareto import front_indices
from search.solvers.problem import Bools, Codes, Floats

Measure = Callable[[Codes], Floats]
"""One number per policy, ``int[P, groups] -> float[P]``."""

SLACK = 1e-12


@dataclass(frozen=True)
class Landscape:
    """What a local search moves on.

    Attributes:
        sizes: number of choices of each group, ``int[groups]``.
        loss: predicted loss, lower is better.
        cost: cost to trade it against.
        feasible: which policies may be taken, ``int[P, groups] -> bool[P]``.
    """

    sizes: Codes
    loss: Measure
    cost: Measure
    feasible: Callable[[Codes], Bools]


@dataclass(frozen=True, eq=False)
class Found:
    """Nondominated policies by rising cost.

    Attributes:
        codes: ``int[P, groups]``.
        loss: predicted, ``float[P]``.
        cost: ``float[P]``.
    """

    codes: Codes
    loss: Floats
    cost: Floats

    @staticmethod
    def best(codes: Codes, loss: Floats, cost: Floats) -> Found:
        """The nondominated ones of any policies."""
        keep = front_indices(np.stack([cost, loss], axis=1))
        return Found(codes[keep], loss[keep], cost[keep])

    def merged(self, other: Found) -> Found:
        """The nondominated ones of both."""
        return Found.best(
            np.concatenate([self.codes, other.codes]),
            np.concatenate([self.loss, other.loss]),
            np.concatenate([self.cost, other.cost]),
        )


def refine(
    start: Codes, landscape: Landscape, *, rounds: int = 3, width: int = 120, pairs: int = 32
) -> Found:
    """Nondominated policies found around ``start``.

    Args:
        start: feasible policies, ``int[P, groups]``, at least one.
        landscape: what to improve.
        rounds: how often neighbourhoods are searched.
        width: points searched in a round, spread evenly over the front.
        pairs: 2-opt neighbours predicted per point.
    """
    start = np.asarray(start, dtype=np.int64)
    front = Found.best(start, landscape.loss(start), landscape.cost(start))
    searched: set[bytes] = set()
    for _ in range(rounds):
        fresh = [i for i, codes in enumerate(front.codes) if codes.tobytes() not in searched]
        if not fresh:
            break
        places = np.unique(np.linspace(0, len(fresh) - 1, width).round().astype(int))
        points = front.codes[[fresh[place] for place in places]]
        searched.update(codes.tobytes() for codes in points)
        for found in _neighbourhoods(points, landscape, pairs):
            front = front.merged(found)
    return front


def neighbours(codes: Codes, sizes: Codes) -> Codes:
    """All policies that differ from ``codes[groups]`` in one group, ``int[N, groups]``."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    choice = np.concatenate([np.arange(size) for size in sizes])
    changed = choice != codes[group]
    result = np.tile(codes, (int(changed.sum()), 1))
    result[np.arange(len(result)), group[changed]] = choice[changed]
    return result


def _neighbourhoods(points: Codes, landscape: Landscape, pairs: int) -> list[Found]:
    """What is best among the neighbours of ``points``, singles and pairs apart."""
    single = np.stack([neighbours(codes, landscape.sizes) for codes in points])
    flat = single.reshape(-1, single.shape[2])
    loss, cost = landscape.loss(flat), landscape.cost(flat)
    gain = loss.reshape(single.shape[:2]) - landscape.loss(points)[:, None]
    extra = cost.reshape(single.shape[:2]) - landscape.cost(points)[:, None]
    moves = zip(points, single, gain, extra, strict=True)
    double = np.concatenate([_pairs(*move, pairs) for move in moves])
    found = [_allowed(flat, loss, cost, landscape)]
    if len(double):
        double = np.unique(double, axis=0)
        found.append(_allowed(double, landscape.loss(double), landscape.cost(double), landscape))
    return found


def _allowed(codes: Codes, loss: Floats, cost: Floats, landscape: Landscape) -> Found:
    mask = landscape.feasible(codes)
    return Found.best(codes[mask], loss[mask], cost[mask])


def _pairs(codes: Codes, single: Codes, gain: Floats, extra: Floats, pairs: int) -> Codes:
    """The most promising combinations of a dearer and a cheaper move of two groups.

    Args:
        codes: where to start, ``int[groups]``.
        single: its 1-opt neighbours, ``int[N, groups]``.
        gain: their change of loss, ``float[N]``.
        extra: their change of cost, ``float[N]``.
        pairs: how many to return at most.
    """
    group = (single != codes).argmax(axis=1)
    up, down = np.flatnonzero(extra > 0), np.flatnonzero(extra < 0)
    neutral = extra[up][:, None] + extra[down][None, :] <= SLACK * extra[up][:, None]
    promise = gain[up][:, None] + gain[down][None, :]
    promise = np.where(neutral & (group[up][:, None] != group[down][None, :]), promise, np.inf)
    order = np.argsort(promise, axis=None, kind="stable")[:pairs]
    first, second = np.unravel_index(order[np.isfinite(promise.ravel()[order])], promise.shape)
    # Each move changes one group, so both changes add up.
    return single[up[first]] + single[down[second]] - codes
