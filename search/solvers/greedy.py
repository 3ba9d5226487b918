"""Greedy lowering along a score (as in Qualcomm's AMP, arXiv 2302.05397)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from search.solvers.problem import Codes, Floats


def greedy_path(score: Floats, cost: Floats, *, per_cost: bool = True) -> Iterator[Codes]:
    """Yields codes from the least-score policy down to the least-cost one.

    Args:
        score: ``float[groups, choices]``, lower is better, NaN-padded.
        cost: same shape, what every move must lower.
        per_cost: takes the move with the smallest added score per unit of saved cost; else, as
            AMP does, the one with the smallest added score.
    """
    groups = np.arange(len(score))
    ties = np.nan_to_num(cost, nan=np.inf)
    # The least score; of equal scores the cheapest choice.
    codes = np.array(
        [np.lexsort((ties[g], np.nan_to_num(score[g], nan=np.inf)))[0] for g in groups]
    )
    yield codes.copy()
    while True:
        saved = cost[groups, codes][:, None] - cost
        added = np.maximum(score - score[groups, codes][:, None], 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            price = np.where(saved > 0, added / saved if per_cost else added, np.inf)
        price[np.isnan(price)] = np.inf
        group, choice = np.unravel_index(int(np.argmin(price)), price.shape)
        if not np.isfinite(price[group, choice]):
            return
        codes[group] = choice
        yield codes.copy()
