"""The additive problem every solver works on, and exact sums over its policies.

Minimise ``sum_g score[g, c_g]`` against one or more costs. A cost is a sum over groups plus
transition terms between pairs of groups (requantizing, repacking), or a maximum over groups
(peak memory). Tied layers are one group; a fixed group offers one choice. A NaN score marks a
choice that is not offered.

Any finite score is solved exactly, negative ones included (the change of a loss can be
negative); whether to trust them is another question, see :mod:`search.solvers.repair`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from quant.errors import InfeasibleError, UsageError, unknown

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]
AnyCodes = npt.NDArray[np.integer]
Rule = Literal["sum", "max"]

NAMED = 3
CHUNK = 1 << 14


@dataclass(frozen=True)
class Edge:
    """A cost of two groups' choices together.

    Attributes:
        first: index of one group.
        second: index of the other group.
        cost: ``float[choices of first, choices of second]``, same unit as the cost it adds to.
    """

    first: int
    second: int
    cost: Floats


@dataclass(frozen=True)
class Cost:
    """What each choice of each group costs.

    Attributes:
        table: ``float[groups, choices]``; padding is ignored.
        rule: how groups combine, ``"sum"`` or ``"max"``.
        edges: transition terms, only for sums.
        name: metric with its unit, for messages.
    """

    table: Floats
    rule: Rule = "sum"
    edges: tuple[Edge, ...] = ()
    name: str = "cost"


@dataclass(frozen=True, eq=False)
class Problem:
    """Scores and costs of all choices of all groups; :func:`from_tables` builds one.

    Attributes:
        score: ``float[groups, choices]``, lower is better, NaN where nothing is offered.
        costs: any number of costs.
        names: group names for messages; ``group 0`` and so on when empty.

    Raises:
        UsageError: shapes that differ, infinite scores, a cost missing for an offered choice,
            a group without choices, edges that name no pair of groups.
    """

    score: Floats
    costs: tuple[Cost, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check()

    @cached_property
    def offered(self) -> Bools:
        """Which choices may be taken, ``bool[groups, choices]``."""
        return ~np.isnan(self.score)

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.score)

    def name(self, group: int) -> str:
        """Name of a group for messages."""
        return f"'{self.names[group]}'" if self.names else f"group {group}"

    def padded(self, axis: int, fill: float) -> Floats:
        """Table of one cost, ``float[groups, choices]``, ``fill`` where nothing is offered."""
        return np.where(self.offered, self.costs[axis].table, fill)

    def without(self, forbidden: Bools) -> Problem:
        """The same problem with ``forbidden[groups, choices]`` no longer offered."""
        return replace(self, score=np.where(forbidden, np.nan, self.score))

    def _check(self) -> None:
        if self.score.ndim != 2 or not self.score.size:
            raise UsageError(
                f"score has shape {self.score.shape}",
                expected="[groups, choices], at least one of each",
            )
        if self.names and len(self.names) != self.groups:
            raise UsageError(f"{len(self.names)} names for {self.groups} groups")
        if not self.offered.any(axis=1).all():
            empty = int(np.argmin(self.offered.any(axis=1)))
            raise UsageError(
                f"{self.name(empty)} has no choice to solve for",
                expected="at least one finite score in each group",
            )
        self._refuse(np.isinf(self.score), "score")
        for cost in self.costs:
            self._check_cost(cost)

    def _check_cost(self, cost: Cost) -> None:
        if cost.table.shape != self.score.shape:
            raise UsageError(
                f"{cost.name} has shape {cost.table.shape}", expected=f"{self.score.shape}"
            )
        if cost.rule not in ("sum", "max"):
            raise unknown("rule", cost.rule, ("sum", "max"))
        self._refuse(self.offered & ~np.isfinite(cost.table), cost.name)
        if cost.edges and cost.rule == "max":
            raise UsageError(f"{cost.name} is a maximum and has transition terms")
        for edge in cost.edges:
            self._check_edge(cost, edge)

    def _check_edge(self, cost: Cost, edge: Edge) -> None:
        first, second, width = edge.first, edge.second, self.score.shape[1]
        if first == second or not all(0 <= g < self.groups for g in (first, second)):
            raise UsageError(
                f"{cost.name} has a transition between groups {first} and {second}",
                expected=f"two different groups of 0..{self.groups - 1}",
            )
        pairs = np.outer(self.offered[first], self.offered[second])
        if edge.cost.shape != (width, width) or not np.isfinite(edge.cost[pairs]).all():
            raise UsageError(
                f"{cost.name} has no full transition table from {self.name(first)} to "
                f"{self.name(second)}",
                expected=f"finite float[{width}, {width}]",
            )

    def _refuse(self, bad: Bools, what: str) -> None:
        if bad.any():
            group, choice = np.argwhere(bad)[0]
            raise UsageError(
                f"{what} of {self.name(int(group))}, choice {int(choice)} is not a finite number",
                expected="a finite number for every offered choice",
            )


def as_cost(item: Cost | Floats) -> Cost:
    """A plain table as a summed cost."""
    cost = item if isinstance(item, Cost) else Cost(item)
    edges = tuple(replace(e, cost=np.asarray(e.cost, dtype=np.float64)) for e in cost.edges)
    return replace(cost, table=np.asarray(cost.table, dtype=np.float64), edges=edges)


def from_tables(
    score: Floats,
    costs: Sequence[Cost | Floats],
    sizes: Codes | None = None,
    names: Sequence[str] = (),
) -> Problem:
    """Problem of score and cost tables; a plain cost table is a sum.

    Args:
        score: ``float[groups, choices]``, NaN where nothing is offered.
        costs: tables of the same shape.
        sizes: ``int[groups]``; only the first ``sizes[g]`` choices are offered, every one of
            them must have a score, and tables may be wider than that.
        names: group names.

    Raises:
        UsageError: a score within ``sizes`` is NaN or infinite; whatever Problem refuses.
    """
    score = np.asarray(score, dtype=np.float64)
    wanted = [as_cost(item) for item in costs]
    if sizes is not None:
        score = _first_choices(score, np.asarray(sizes), names)
        width = score.shape[1]
        wanted = [replace(cost, table=cost.table[:, :width]) for cost in wanted]
    return Problem(score, tuple(wanted), tuple(names))


def _first_choices(score: Floats, sizes: Codes, names: Sequence[str]) -> Floats:
    width = int(sizes.max())
    inside = np.arange(width)[None, :] < sizes[:, None]
    score = score[:, :width]
    bad = inside & ~np.isfinite(score)
    if bad.any():
        group, choice = (int(i) for i in np.argwhere(bad)[0])
        label = f"'{names[group]}'" if names else f"group {group}"
        raise UsageError(
            f"{int(bad.sum())} of {int(inside.sum())} scores are not finite numbers, the first "
            f"for {label}, choice {choice}",
            fix="recompute the score, or take another kind of score",
        )
    return np.where(inside, score, np.nan)


def totals(problem: Problem, codes: AnyCodes) -> tuple[Floats, Floats]:
    """Correctly rounded score ``float[P]`` and costs ``float[P, K]`` of ``codes[P, groups]``."""
    scores = _sums(problem.score, codes, ())
    costs = [
        _sums(cost.table, codes, cost.edges) if cost.rule == "sum" else _peaks(cost.table, codes)
        for cost in problem.costs
    ]
    return scores, np.stack(costs, axis=1) if costs else np.empty((len(codes), 0))


def _sums(table: Floats, codes: AnyCodes, edges: Sequence[Edge]) -> Floats:
    """What ``math.fsum`` gives for each policy, in chunks that stay in the cache."""
    largest = [np.abs(rows[~np.isnan(rows)]).max() for rows in (*table, *(e.cost for e in edges))]
    doubt = len(largest) * math.fsum(largest) * 2.0**-100
    result = np.empty(len(codes))
    for start in range(0, len(codes), CHUNK):
        part = codes[start : start + CHUNK]
        sums, rest = _double_double(_terms(table, part, edges))
        ulp = np.spacing(np.abs(sums))
        # Rounding is in doubt only where the rest is half a unit (a quarter below a power of 2).
        near = np.minimum(np.abs(np.abs(rest) - ulp / 2), np.abs(np.abs(rest) - ulp / 4)) <= doubt
        for row in np.flatnonzero(near & (rest != 0)):
            sums[row] = math.fsum(term[0] for term in _terms(table, part[row : row + 1], edges))
        result[start : start + CHUNK] = sums
    return result


def _terms(table: Floats, codes: AnyCodes, edges: Sequence[Edge]) -> Iterator[Floats]:
    """What each group and each edge adds to every policy, ``float[P]`` each."""
    columns = codes.T
    for row, taken in zip(table, columns, strict=True):
        yield row[taken]
    for edge in edges:
        yield edge.cost[columns[edge.first], columns[edge.second]]


def _double_double(terms: Iterable[Floats]) -> tuple[Floats, Floats]:
    """Rounded sums and what rounding left, the errors of additions carried along (TwoSum)."""
    total: Floats = np.zeros(1)
    carry: Floats = np.zeros(1)
    for term in terms:
        total, error = _two_sum(total, term)
        carry = carry + error
    return _two_sum(total, carry)


def _two_sum(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """A rounded sum and its exact rounding error (Knuth)."""
    rounded = first + second
    back = rounded - first
    return rounded, (first - (rounded - back)) + (second - back)


def _peaks(table: Floats, codes: AnyCodes) -> Floats:
    groups = np.arange(len(table))
    parts = range(0, len(codes), CHUNK)
    return np.concatenate([table[groups, codes[i : i + CHUNK]].max(axis=1) for i in parts])


def infeasible(problem: Problem, axis: int, limit: float, nearest: float) -> InfeasibleError:
    """The error for a limit on cost ``axis`` whose nearest feasible value is ``nearest``."""
    cost = problem.costs[axis]
    floor = limit if cost.rule == "max" else -math.inf
    return InfeasibleError(
        f"limit {text(limit)} on {cost.name} is below the cheapest policy",
        where=binding(problem, problem.padded(axis, np.inf).min(axis=1), floor),
        expected=f"at least {text(nearest)}",
        fix=f"raise the limit to {text(nearest)}, or offer these groups cheaper choices",
    )


def text(value: float) -> str:
    """Short where exact, else every digit: a rounded limit could be infeasible again."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def binding(problem: Problem, least: Floats, floor: float = -math.inf) -> str:
    """The groups that cost most even in their cheapest choice."""
    order = [int(g) for g in np.argsort(-least, kind="stable") if least[g] > floor]
    shown = [
        f"{problem.name(g)} needs {least[g]:g}"
        + (" (fixed)" if problem.offered[g].sum() == 1 else "")
        for g in order[:NAMED]
    ]
    more = len(order) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
