"""Choice per group by integer programming (HAWQ-V3, arXiv 2011.10680, section 3.4).

Minimise ``sum s[g, c_g]`` subject to ``sum t_k[g, c_g] <= limit_k`` with one binary variable
per (group, choice). Scores can be as small as 1e-11; solvers stop at absolute tolerances, so
objective and constraints are scaled first, ``gapRel`` is 0, and the solution's status and
feasibility are checked again here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pulp

from quant.errors import InfeasibleError, UsageError, unknown

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

SOLVERS = ("cbc", "highs")
SCALE = 1e3
SLACK = 1e-9


@dataclass(frozen=True)
class Limit:
    """``sum cost[g, c_g] <= limit`` for one cost table ``float[groups, choices]``."""

    cost: Floats
    limit: float


@dataclass(frozen=True)
class Solution:
    """An optimal assignment and how it was found.

    Attributes:
        codes: ``int[groups]``.
        objective: unscaled score of ``codes``.
        usage: unscaled cost of each limit.
        solver: ``"cbc"`` or ``"highs"``.
        gap: relative gap asked for (always 0).
        seconds: time in the solver.
    """

    codes: Codes
    objective: float
    usage: tuple[float, ...]
    solver: str
    gap: float
    seconds: float


def solve(score: Floats, limits: Sequence[Limit], solver: str = "cbc") -> Solution:
    """Finds the policy of least score within all limits.

    Args:
        score: ``float[groups, choices]``; NaN marks a choice that does not exist.
        limits: any number of cost limits over the same groups and choices.
        solver: one of :data:`SOLVERS`.

    Raises:
        InfeasibleError: a limit is below what is reachable.
        UsageError: unknown solver, or no choice left in a group.
    """
    if solver not in SOLVERS:
        raise unknown("solver", solver, SOLVERS)
    offered = ~np.isnan(score)
    if not offered.any(axis=1).all():
        raise UsageError(f"group {int(np.argmin(offered.any(axis=1)))} has no choice to solve for")
    _check_reachable(offered, limits)
    started = time.perf_counter()
    codes = _solve_scaled(score, offered, limits, solver)
    seconds = time.perf_counter() - started
    rows = np.arange(len(score))
    usage = tuple(math.fsum(limit.cost[rows, codes]) for limit in limits)
    for used, limit in zip(usage, limits, strict=True):
        if used > limit.limit + SLACK * max(1.0, abs(limit.limit)):
            msg = f"{solver} returned an infeasible policy: {used} > {limit.limit}"
            raise RuntimeError(msg)
    return Solution(codes, math.fsum(score[rows, codes]), usage, solver, 0.0, seconds)


def _check_reachable(offered: npt.NDArray[np.bool_], limits: Sequence[Limit]) -> None:
    for limit in limits:
        least = math.fsum(np.where(offered, limit.cost, np.inf).min(axis=1))
        if least > limit.limit:
            most = math.fsum(np.where(offered, limit.cost, -np.inf).max(axis=1))
            raise InfeasibleError(
                f"limit {limit.limit:g} is below the cheapest policy",
                expected=f"{least:g} to {most:g}",
                fix="raise the limit",
            )


def _solve_scaled(
    score: Floats, offered: npt.NDArray[np.bool_], limits: Sequence[Limit], solver: str
) -> Codes:
    problem = pulp.LpProblem("policy", pulp.LpMinimize)
    picks = {
        (int(g), int(c)): pulp.LpVariable(f"x_{g}_{c}", cat="Binary")
        for g, c in np.argwhere(offered)
    }
    gains = _scaled(score, offered)
    problem += pulp.lpSum(float(gains[key]) * var for key, var in picks.items())
    for g in range(len(score)):
        problem += pulp.lpSum(var for (row, _), var in picks.items() if row == g) == 1
    for limit in limits:
        base = np.where(offered, limit.cost, np.inf).min(axis=1)
        extra = limit.cost - base[:, None]
        room = limit.limit - math.fsum(base)
        unit = SCALE / max(room, float(np.nanmax(np.where(offered, extra, 0.0))), 1e-300)
        problem += pulp.lpSum(
            float(extra[key] * unit) * var for key, var in picks.items()
        ) <= float(room * unit)
    status = problem.solve(_solver(solver))
    if pulp.LpStatus[status] != "Optimal":
        msg = f"{solver} ended with status {pulp.LpStatus[status]} on a feasible problem"
        raise RuntimeError(msg)
    chosen = np.full(len(score), -1, dtype=np.int64)
    for (g, c), var in picks.items():
        if var.value() is not None and var.value() > 0.5:
            chosen[g] = c
    return chosen


def _scaled(score: Floats, offered: npt.NDArray[np.bool_]) -> Floats:
    """Scores shifted to start at 0 in each group and scaled so that the largest is SCALE."""
    shifted = score - np.where(offered, score, np.inf).min(axis=1)[:, None]
    largest = float(np.nanmax(np.where(offered, shifted, 0.0)))
    return shifted * (SCALE / largest) if largest > 0 else np.zeros_like(score)


def _solver(name: str) -> pulp.LpSolver:
    if name == "cbc":
        return pulp.PULP_CBC_CMD(msg=False, gapRel=0, threads=1)
    return pulp.HiGHS(msg=False, gapRel=0, threads=1)
