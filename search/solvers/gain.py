"""Expected hypervolume gain when only the loss is uncertain.

Cost is known, so the front is a staircase ``best(x)``, the least loss seen at a cost of at most
``x``. A policy of cost ``t`` and loss ``Y`` adds ``max(best(x) - Y, 0)`` to every ``x >= t``,
hence for a normal ``Y`` the expected gain is a sum of expected improvements (Mockus, 1978) over
the steps of the staircase (the two-objective case of Emmerich et al., 2011, with one objective
without noise).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr

from search.solvers.problem import Floats


def expected_gain(
    mean: Floats, deviation: Floats, cost: Floats, seen: Floats, worst: tuple[float, float]
) -> Floats:
    """Expected growth of the hypervolume, ``float[P]``.

    Args:
        mean: expected loss of each policy, ``float[P]``.
        deviation: its standard deviation, ``float[P]``, above 0.
        cost: its cost, ``float[P]``.
        seen: ``(loss, cost)`` of what is known, ``float[N, 2]``.
        worst: ``(loss, cost)`` of the reference point.
    """
    order = np.argsort(seen[:, 1], kind="stable")
    best = np.minimum.accumulate(np.r_[worst[0], seen[order, 0]])
    edges = np.minimum(np.r_[-np.inf, seen[order, 1], worst[1]], worst[1])
    width = np.maximum(edges[1:] - np.maximum(edges[:-1], cost[:, None]), 0.0)
    gain: Floats = (width * _improvement(best, mean[:, None], deviation[:, None])).sum(axis=1)
    return gain


def _improvement(best: Floats, mean: Floats, deviation: Floats) -> Floats:
    """``E[max(best - Y, 0)]`` of a normal ``Y``."""
    margin = (best - mean) / deviation
    density = np.exp(-0.5 * margin**2) / math.sqrt(2 * math.pi)
    expected: Floats = deviation * (margin * ndtr(margin) + density)
    return expected
