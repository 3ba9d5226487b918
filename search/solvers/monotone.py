"""HAWQ-v2's enumeration: bits never fall as the Hessian trace rises (arXiv 1911.03852).

Groups are sorted by sensitivity, and only assignments that are monotone in that order are
listed: with ``m`` levels and ``L`` groups ``sum_j C(m, j) C(L - 1, j - 1) = C(L + m - 1, L)``
of them, 1485 for three widths and 53 layers. The score is not needed for the order, only for
the choice among the listed. Kept as the paper's baseline: the exact front is cheaper to get
than it looks and never worse.
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement

import numpy as np

from quant.errors import InfeasibleError, UsageError
from search.solvers.front import Front, front_of
from search.solvers.problem import Codes, Floats, Problem

MAX_POLICIES = 200_000


def monotone_levels(groups: int, levels: int) -> Codes:
    """All non-decreasing level sequences, ``int[N, groups]`` with entries 0..levels-1.

    Raises:
        UsageError: more than 200,000 of them.
    """
    count = math.comb(groups + levels - 1, groups)
    if count > MAX_POLICIES:
        raise UsageError(
            f"{levels} levels over {groups} groups have {count:,} monotone assignments",
            expected=f"at most {MAX_POLICIES:,}",
            fix="offer fewer bit-widths, or use front_dp",
        )
    # A sequence is given by the positions at which it steps up to each further level.
    cuts = np.array(
        list(combinations_with_replacement(range(groups + 1), levels - 1)), dtype=np.int64
    ).reshape(count, levels - 1)
    reached = np.arange(groups)[None, :, None] >= cuts[:, None, :]
    return np.array(reached.sum(axis=2), dtype=np.int64)


def solve_monotone(problem: Problem, sensitivity: Floats, fineness: Floats) -> Front:
    """Nondominated policies among those monotone in sensitivity.

    Args:
        problem: scores and costs; groups with a single choice stay out of the order.
        sensitivity: ``float[groups]``, the mean Hessian trace; ties keep the order of groups.
        fineness: ``float[groups, choices]``, what rises with sensitivity, for example bits.

    Raises:
        UsageError: two choices of a group are equally fine, or too many policies.
        InfeasibleError: no monotone policy uses offered choices only.
    """
    free = np.flatnonzero(problem.offered.sum(axis=1) > 1)
    fixed = problem.offered.argmax(axis=1)
    if not len(free):
        return front_of(problem, fixed[None, :])
    levels = np.unique(fineness[free][problem.offered[free]])
    codes_at = np.stack([_codes_by_level(problem, int(g), fineness[g], levels) for g in free])
    order = np.argsort(sensitivity[free], kind="stable")
    sequences = monotone_levels(len(free), len(levels))
    chosen = np.empty_like(sequences)
    chosen[:, order] = codes_at[order, sequences]
    chosen = chosen[(chosen >= 0).all(axis=1)]
    if not len(chosen):
        raise InfeasibleError(
            "no assignment is monotone in sensitivity and offered everywhere",
            fix="offer the same bit-widths to all groups",
        )
    codes = np.tile(fixed, (len(chosen), 1))
    codes[:, free] = chosen
    return front_of(problem, codes)


def _codes_by_level(problem: Problem, group: int, fineness: Floats, levels: Floats) -> Codes:
    """Code of each level in one group, -1 where it offers none, ``int[levels]``."""
    codes = np.full(len(levels), -1, dtype=np.int64)
    for choice in np.flatnonzero(problem.offered[group]):
        level = int(np.searchsorted(levels, fineness[choice]))
        if codes[level] >= 0:
            raise UsageError(
                f"choices {codes[level]} and {choice} of {problem.name(group)} are equally fine",
                expected="choices that differ in bits, as HAWQ-v2 orders them",
            )
        codes[level] = choice
    return codes
