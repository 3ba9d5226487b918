"""Tables and additive fronts of a context, as several strategies need them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from search.solvers.front_dp import solve_front
from search.solvers.ilp import Limit, solve
from search.solvers.problem import Problem, from_tables
from search.solvers.repair import repair_scores
from search.strategies.base import SearchContext

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def names(context: SearchContext) -> list[str]:
    """Group names for messages."""
    return [group.name for group in context.space.groups]


def cost_table(context: SearchContext, metric: str) -> Floats:
    """Cost of the searchable choices, ``float[groups, choices]``, NaN-padded."""
    sizes = context.space.sizes
    width = int(sizes.max())
    offered = np.arange(width)[None, :] < sizes[:, None]
    return np.where(offered, context.costs.table(metric)[:, :width], np.nan)


def problem(context: SearchContext, kind: str, *metrics: str) -> Problem:
    """The additive problem of a score against costs; negative scores are repaired.

    Raises:
        UsageError: the score is NaN or infinite for an offered choice.
    """
    tables = [context.costs.table(metric) for metric in metrics]
    found = from_tables(context.scores[kind].value, tables, context.space.sizes, names(context))
    repaired, _ = repair_scores(found.score)
    return from_tables(repaired, [cost.table for cost in found.costs], names=names(context))


def feasible_front(context: SearchContext, kind: str, metric: str) -> Codes:
    """Feasible policies of the exact additive front by rising cost, ``int[P, groups]``."""
    front = solve_front(problem(context, kind, metric))
    codes = np.array(front.codes, dtype=np.int64)
    return codes[context.feasible(codes)]


def within_limits(context: SearchContext, kind: str) -> Codes:
    """The policy of least additive score within all constraints, ``int[groups]``.

    Raises:
        InfeasibleError: there is none; names the groups that bind and the nearest limits.
    """
    limits = [
        Limit(np.nan_to_num(cost_table(context, item.metric)), item.limit)
        for item in context.constraints
    ]
    return solve(problem(context, kind).score, limits, names=names(context)).codes


def starts(context: SearchContext, kind: str) -> list[Codes]:
    """Where a local search begins for each cost metric, ``int[P, groups]`` each, P >= 1.

    Raises:
        InfeasibleError: no policy satisfies the constraints.
    """
    fronts = [feasible_front(context, kind, metric) for metric in context.cost_metrics]
    if not any(len(codes) for codes in fronts):
        return [within_limits(context, kind)[None, :]] * len(fronts)
    together = np.concatenate(fronts)
    return [codes if len(codes) else together for codes in fronts]
