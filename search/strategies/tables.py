"""Tables and additive fronts of a context, as several strategies need them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from search.solvers.front_dp import solve_front
from search.solvers.ilp import Limit, solve
from search.solvers.problem import Cost, Problem, from_tables
from search.solvers.repair import repair_scores
from search.strategies.base import SearchContext
from spaces.constraints import rule_of

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


def cost_of(context: SearchContext, metric: str) -> Cost:
    """A metric's costs as the solvers take them."""
    table = np.nan_to_num(cost_table(context, metric))
    return Cost(table, rule_of(metric), name=metric)


def within(context: SearchContext) -> list[Limit]:
    """The constraints of a study as limits of a program."""
    return [Limit(cost_of(context, item.metric), item.limit) for item in context.constraints]


def problem(context: SearchContext, kind: str, *metrics: str) -> Problem:
    """The additive problem of a score against costs; negative scores are repaired.

    Raises:
        UsageError: the score is NaN or infinite for an offered choice.
    """
    costs = [cost_of(context, metric) for metric in metrics]
    score = np.asarray(context.scores[kind].value, dtype=np.float64)
    found = from_tables(score, costs, context.space.sizes, names(context))
    repaired, _ = repair_scores(found.score)
    return from_tables(repaired, found.costs, names=names(context))


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
    return solve(problem(context, kind).score, within(context), names=names(context)).codes


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
