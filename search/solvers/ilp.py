"""Choice per group by integer programming (HAWQ-V3, arXiv 2011.10680, section 3.4).

Minimise ``sum s[g, c_g]`` within any number of limits, with one binary variable per (group,
choice). A limit on a sum is a linear constraint, its transition terms are linearised over pairs
of choices; a limit on a maximum (peak memory) forbids choices.

Solvers stop at absolute tolerances and scores can be as small as 1e-11, so objective and
constraints are scaled first, ``gapRel`` is 0, and status and feasibility are checked again
here, the latter in exact sums. A policy that exceeds a limit by less than the solver's
tolerance is excluded and the program is solved again: budgets are hard.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pulp

from quant.errors import InfeasibleError, unknown
from search.solvers.problem import (
    Bools,
    Codes,
    Cost,
    Edge,
    Floats,
    Problem,
    as_cost,
    binding,
    infeasible,
    text,
    totals,
)

SOLVERS = ("cbc", "highs")
SCALE = 1e3
ATTEMPTS = 50
SLACKS = (1e-9, 1e-8, 1e-7)

Picks = Mapping[tuple[int, int], pulp.LpVariable]
Term = tuple[pulp.LpVariable, float]


@dataclass(frozen=True, eq=False)
class Limit:
    """An upper bound on a cost; a plain table ``float[groups, choices]`` is a sum."""

    cost: Floats | Cost
    limit: float


@dataclass(frozen=True, eq=False)
class Solution:
    """An optimal assignment and how it was found.

    Attributes:
        codes: ``int[groups]``.
        objective: unscaled score of ``codes``, correctly rounded.
        usage: unscaled cost of each limit, correctly rounded.
        solver: ``"cbc"`` or ``"highs"``.
        gap: relative gap, always 0: asked for and, by the solver's status, reached.
        seconds: wall time of building and solving.
    """

    codes: Codes
    objective: float
    usage: tuple[float, ...]
    solver: str
    gap: float
    seconds: float


def solve(
    score: Floats, limits: Sequence[Limit], solver: str = "cbc", names: Sequence[str] = ()
) -> Solution:
    """Finds the policy of least score within all limits.

    Args:
        score: ``float[groups, choices]``; NaN marks a choice that is not offered.
        limits: any number of limits over the same groups and choices.
        solver: one of :data:`SOLVERS`.
        names: group names for messages.

    Raises:
        InfeasibleError: a limit, or all together, are below what is reachable; names the
            groups that bind and the nearest feasible limits.
        UsageError: unknown solver, or tables :class:`Problem` refuses.
    """
    if solver not in SOLVERS:
        raise unknown("solver", solver, SOLVERS)
    problem = Problem(
        np.asarray(score, dtype=np.float64),
        tuple(as_cost(item.cost) for item in limits),
        tuple(names),
    )
    bounds = np.array([item.limit for item in limits], dtype=np.float64)
    started = time.perf_counter()
    problem = _without_peaks(problem, bounds)
    _check_reach(problem, bounds)
    codes = _within(problem, bounds, solver)
    seconds = time.perf_counter() - started
    objective, usage = totals(problem, codes[None, :])
    return Solution(codes, float(objective[0]), tuple(usage[0].tolist()), solver, 0.0, seconds)


def _without_peaks(problem: Problem, bounds: Floats) -> Problem:
    """The problem without the choices a limit on a maximum forbids."""
    for axis, (cost, bound) in enumerate(zip(problem.costs, bounds, strict=True)):
        if cost.rule == "max":
            table = problem.padded(axis, np.inf)
            nearest = float(table.min(axis=1).max())
            if nearest > bound:
                raise infeasible(problem, axis, float(bound), nearest)
            problem = problem.without(problem.offered & (table > bound))
    return problem


def _check_reach(problem: Problem, bounds: Floats) -> None:
    """Each sum without transition terms on its own; the program tells about the rest."""
    for axis, (cost, bound) in enumerate(zip(problem.costs, bounds, strict=True)):
        if cost.rule == "sum" and not cost.edges:
            nearest = math.fsum(problem.padded(axis, np.inf).min(axis=1))
            if nearest > bound:
                raise infeasible(problem, axis, float(bound), nearest)


def _within(problem: Problem, bounds: Floats, solver: str) -> Codes:
    """The optimum within the limits in exact sums.

    A policy closer to a limit than the solver's tolerance can make it call the program
    infeasible, so limits are widened beyond that tolerance, and wider when it still does.
    """
    for slack in SLACKS:
        codes = _solved(problem, bounds, solver, slack)
        if codes is not None:
            return codes
    raise _together(problem, bounds, solver)


def _solved(problem: Problem, bounds: Floats, solver: str, slack: float) -> Codes | None:
    """Solves under limits widened by ``slack``, excluding what exceeds the true ones."""
    problem = problem.without(~_affordable(problem, bounds))
    program, picks = _assignment(problem)
    program += _sum_of((var, gain) for var, gain in _pairs(picks, _scaled_score(problem)))
    for terms, room, unit in _rows(problem, bounds, picks, program):
        scaled = _sum_of((var, value * unit) for var, value in terms)
        program += scaled <= room * unit + slack * SCALE
    for _ in range(ATTEMPTS):
        codes = _optimum(program, picks, problem.groups, solver)
        if codes is None or (totals(problem, codes[None, :])[1][0] <= bounds).all():
            return codes
        taken = _sum_of((picks[g, int(c)], 1.0) for g, c in enumerate(codes))
        program += taken <= problem.groups - 1
    msg = f"{solver} returned {ATTEMPTS} policies beyond the limits"
    raise RuntimeError(msg)


def _affordable(problem: Problem, bounds: Floats) -> Bools:
    """Choices that fit every limit beside the cheapest of all other groups.

    The others only make the program's numbers range wider; none is removed from a group they
    would leave empty, where the program finds out itself.
    """
    fits = problem.offered.copy()
    for axis, (cost, bound) in enumerate(zip(problem.costs, bounds, strict=True)):
        if cost.rule == "sum" and not cost.edges:
            table = problem.padded(axis, np.inf)
            extra = table - table.min(axis=1)[:, None]
            room = bound - math.fsum(table.min(axis=1))
            fits &= extra <= room * (1 + 1e-6)
    fits |= problem.offered & ~fits.any(axis=1, keepdims=True)
    return fits


def _together(problem: Problem, bounds: Floats, solver: str) -> Exception:
    """The error for limits that cannot hold at once, with the nearest ones that can.

    Nearest: the largest overshoot, as a share of each cost's range, is as small as possible.
    """
    program, picks = _assignment(problem)
    share = pulp.LpVariable("overshoot", lowBound=0)
    program += share
    for terms, room, unit in _rows(problem, bounds, picks, program):
        span = max(sum(abs(value) for _, value in terms), abs(room))
        scaled = _sum_of((var, value * unit) for var, value in terms)
        program += scaled - span * unit * share <= room * unit
    codes = _optimum(program, picks, problem.groups, solver)
    if codes is None:
        return RuntimeError(f"{solver} found no policy without limits")
    usage = totals(problem, codes[None, :])[1][0]
    if (usage <= bounds).all():
        return RuntimeError(f"{solver} called a feasible program infeasible")
    worst = int(np.argmax((usage - bounds) / np.maximum(np.abs(bounds), 1e-300)))
    if len(bounds) == 1:
        return infeasible(problem, 0, float(bounds[0]), float(usage[0]))
    pairs = list(zip(problem.costs, bounds, usage, strict=True))
    nearest = ", ".join(f"{cost.name} {text(max(b, u))}" for cost, b, u in pairs)
    return InfeasibleError(
        "no policy is within all limits together: "
        + ", ".join(f"{cost.name} {text(b)}" for cost, b, _ in pairs),
        where=binding(problem, problem.padded(worst, np.inf).min(axis=1)),
        expected=f"for example {nearest}",
        fix="raise the limits to these, or offer these groups cheaper choices",
    )


def _assignment(problem: Problem) -> tuple[pulp.LpProblem, Picks]:
    """A program in which every group takes exactly one offered choice."""
    program = pulp.LpProblem("policy", pulp.LpMinimize)
    picks = {
        (int(g), int(c)): pulp.LpVariable(f"x_{g}_{c}", cat="Binary")
        for g, c in np.argwhere(problem.offered)
    }
    for g in range(problem.groups):
        program += _sum_of((picks[g, int(c)], 1.0) for c in _choices(problem, g)) == 1
    return program, picks


def _rows(
    problem: Problem, bounds: Floats, picks: Picks, program: pulp.LpProblem
) -> Iterator[tuple[list[Term], float, float]]:
    """Terms, right-hand side and scale of each limit on a sum, less its cheapest choices."""
    for axis, cost in enumerate(problem.costs):
        if cost.rule == "max":
            continue
        base = problem.padded(axis, np.inf).min(axis=1)
        terms = list(_pairs(picks, cost.table - base[:, None]))
        for number, edge in enumerate(cost.edges):
            terms += _linked(edge, f"y_{axis}_{number}", problem, picks, program)
        room = float(bounds[axis]) - math.fsum(base)
        largest = max(abs(room), *(abs(value) for _, value in terms))
        yield terms, room, SCALE / largest if largest > 0 else 1.0


def _linked(
    edge: Edge, name: str, problem: Problem, picks: Picks, program: pulp.LpProblem
) -> Iterator[Term]:
    """Variables that are 1 for the pair of choices taken: rows and columns sum to the picks."""
    first, second = _choices(problem, edge.first), _choices(problem, edge.second)
    pair = {
        (int(i), int(j)): pulp.LpVariable(f"{name}_{i}_{j}", lowBound=0)
        for i in first
        for j in second
    }
    for i in first:
        program += (
            _sum_of((pair[int(i), int(j)], 1.0) for j in second) == picks[edge.first, int(i)]
        )
    for j in second:
        program += (
            _sum_of((pair[int(i), int(j)], 1.0) for i in first) == picks[edge.second, int(j)]
        )
    return ((var, float(edge.cost[key])) for key, var in pair.items())


def _optimum(program: pulp.LpProblem, picks: Picks, groups: int, solver: str) -> Codes | None:
    """Codes of an optimal solution, or None when there is provably none."""
    status = program.solve(_solver(solver))
    if status == pulp.LpStatusInfeasible:
        return None
    if status != pulp.LpStatusOptimal or program.sol_status != pulp.LpSolutionOptimal:
        msg = f"{solver} ended with status {pulp.LpStatus[status]}"
        raise RuntimeError(msg)
    codes = np.full(groups, -1, dtype=np.int64)
    for (g, c), var in picks.items():
        if var.value() is not None and var.value() > 0.5:
            codes[g] = c
    if (codes < 0).any():
        msg = f"{solver} left group {int(np.argmin(codes))} without a choice"
        raise RuntimeError(msg)
    return codes


def _scaled_score(problem: Problem) -> Floats:
    """Scores shifted to start at 0 in each group and scaled so that the largest is SCALE."""
    shifted: Floats = problem.score - np.nanmin(problem.score, axis=1)[:, None]
    largest = float(np.nanmax(shifted))
    return shifted * (SCALE / largest) if largest > 0 else shifted


def _pairs(picks: Picks, table: Floats) -> Iterator[Term]:
    return ((var, float(table[key])) for key, var in picks.items())


def _sum_of(terms: Iterator[Term]) -> pulp.LpAffineExpression:
    return pulp.LpAffineExpression(list(terms))


def _choices(problem: Problem, group: int) -> npt.NDArray[np.int64]:
    return np.flatnonzero(problem.offered[group])


def _solver(name: str) -> pulp.LpSolver:
    if name == "cbc":
        # Preprocessing has lost optima here, with transition terms (as in coin-or/Cbc#283).
        # No threads=1: without the option CBC has one thread, with it one solve in about thirty
        # misses a wake-up and sleeps for 10 s.
        return pulp.PULP_CBC_CMD(msg=False, gapRel=0, options=["preprocess off"])
    return pulp.HiGHS(msg=False, gapRel=0, threads=1)
