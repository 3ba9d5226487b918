"""What a surrogate gets wrong, learnt from the policies evaluated so far.

A Gaussian process (Rasmussen and Williams, 2006, equation 2.25) on ``true - predicted``: a
common shift, a share of a second opinion, and a part that policies have in common the more,
the fewer steps they differ by. Far from everything evaluated it falls back to the surrogate, so
a handful of points cannot spoil it as they spoil a regression on one-hot bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.solvers.problem import Codes, Floats

TINY = 1e-12


@dataclass(frozen=True)
class Prior:
    """Standard deviations of the parts of a residual, in units of the loss.

    Attributes:
        shift: of a shift common to all policies.
        opinion: of the factor on the second opinion.
        local: of the part that depends on the policy.
        reach: distance over which that part is forgotten; from the cheapest to the dearest
            choice of one group is a distance of 1.
        noise: of an evaluation.
    """

    shift: float = 0.2
    opinion: float = 1.0
    local: float = 0.1
    reach: float = 2.0
    noise: float = 0.01


@dataclass(frozen=True, eq=False)
class Points:
    """Policies as the process sees them.

    Attributes:
        place: position of each group's choice, 0..1, ``float[P, groups]``.
        opinion: second opinion minus prediction, ``float[P]``.
    """

    place: Floats
    opinion: Floats


def places(codes: Codes, cost: Floats) -> Floats:
    """Rank of each choice by cost within its group, from 0 to 1, ``float[P, groups]``.

    Args:
        codes: ``int[P, groups]``.
        cost: ``float[groups, choices]``, NaN-padded.
    """
    rank = np.argsort(np.argsort(np.nan_to_num(cost, nan=np.inf), axis=1), axis=1)
    steps = np.maximum((~np.isnan(cost)).sum(axis=1, keepdims=True) - 1, 1)
    result: Floats = (rank / steps)[np.arange(len(cost)), codes]
    return result


def posterior(
    known: Points, residual: Floats, wanted: Points, prior: Prior
) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the residual of ``wanted``, ``float[P]`` each.

    Args:
        known: evaluated policies.
        residual: true minus predicted loss of those, ``float[N]``.
        wanted: policies to tell about.
        prior: see :class:`Prior`.
    """
    own = prior.shift**2 + (prior.opinion * wanted.opinion) ** 2 + prior.local**2
    if not len(residual):
        return np.zeros(len(own)), np.sqrt(own)
    inner = _covariance(known, known, prior) + prior.noise**2 * np.eye(len(residual))
    root = np.linalg.cholesky(inner)
    cross = np.linalg.solve(root, _covariance(known, wanted, prior))
    mean: Floats = cross.T @ np.linalg.solve(root, residual)
    return mean, np.sqrt(np.maximum(own - (cross**2).sum(axis=0), TINY))


def _covariance(first: Points, second: Points, prior: Prior) -> Floats:
    distance = np.zeros((len(first.opinion), len(second.opinion)))
    for a, b in zip(first.place.T, second.place.T, strict=True):
        distance += np.abs(a[:, None] - b[None, :])
    opinions = np.outer(first.opinion, second.opinion)
    result: Floats = (
        prior.shift**2
        + prior.opinion**2 * opinions
        + prior.local**2 * np.exp(-distance / prior.reach)
    )
    return result
