"""Every nondominated policy at once: the dominance-pruned merge (Nemhauser and Ullmann, 1969).

Groups are merged one after the other; after each, partial policies that another one equals or
beats in score and every cost are dropped. What is left in the end is the whole front, for any
real costs. Groups joined by transition costs keep one front per joint choice of the groups
whose neighbours are still to come, so a chain needs one front per last choice.

Sums are compared as 62-bit integers: they do not depend on the order of addition, so layers of
the same shape tie exactly, and the grid is far finer than the rounding of the tables.

The front can be exponentially large in theory. Memory is bounded by putting points in boxes of
the costs and keeping the best of each: the error this makes is at most the sum of the box
widths, and what was really lost is added up and reported. Dropping points at even spacing
instead (as AutoRound does) bounds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quant.errors import UsageError
from search.solvers.dominance import Ints, nondominated, screen, thin
from search.solvers.front import Front, front_of
from search.solvers.problem import AnyCodes, Cost, Edge, Floats, Problem

GRID_BITS = 61
MAX_POINTS = 500_000
MAX_STATES = 4096

State = tuple[int, ...]


def solve_front(problem: Problem, *, epsilon: float = 0.0, max_points: int = MAX_POINTS) -> Front:
    """All nondominated policies of ``problem``.

    Exact unless ``epsilon`` is set or a front outgrows ``max_points``; ``Front.error`` says
    what is guaranteed then. Of policies with equal totals one is kept, always the same.

    Args:
        problem: any number of costs; fronts grow fast with more than two.
        epsilon: error allowed in each cost, as a share 0..1 of its range.
        max_points: partial policies kept after each merge, except the cheapest and best of every
            joint choice; wins over ``epsilon``.

    Raises:
        UsageError: transitions join so many groups that their joint choices cannot be listed.
    """
    if not 0 <= epsilon < 1 or max_points < 1:
        raise UsageError(
            f"epsilon={epsilon} and max_points={max_points}",
            expected="0 <= epsilon < 1 and max_points >= 1",
        )
    if not problem.costs:
        raise UsageError("a front needs at least one cost", fix="name a cost to trade against")
    grids = [_Grid.of(problem, cost) for cost in problem.costs]
    merge = _Merge(problem, grids, epsilon, max_points)
    steps = _steps(problem)
    for step in steps:
        merge.add(step)
    error = [float(lost) * grid.unit for lost, grid in zip(merge.lost, grids, strict=True)]
    return front_of(problem, merge.codes(), error)


@dataclass(frozen=True)
class _Grid:
    """A table as integers: value = integer x unit, rounded to the nearest.

    Attributes:
        table: ``int64[groups, choices]``.
        edges: ``int64[choices, choices]`` by pair of groups.
        unit: a power of two; the largest possible sum stays below 2**62.
    """

    table: Ints
    edges: dict[tuple[int, int], Ints]
    unit: float
    rule: str

    @staticmethod
    def of(problem: Problem, cost: Cost) -> _Grid:
        table = np.where(problem.offered, cost.table, 0.0)
        links = [(edge, _offered_part(problem, edge)) for edge in cost.edges]
        parts = [*np.abs(table).max(axis=1), *(np.abs(part).max() for _, part in links)]
        shift = GRID_BITS - math.frexp(math.fsum(parts))[1]
        edges: dict[tuple[int, int], Ints] = {}
        for edge, part in links:
            # Stored from the earlier to the later group; parallel edges add up.
            later = edge.first > edge.second
            pair = (edge.second, edge.first) if later else (edge.first, edge.second)
            snapped = _snap(part.T if later else part, shift)
            edges[pair] = edges[pair] + snapped if pair in edges else snapped
        return _Grid(_snap(table, shift), edges, math.ldexp(1.0, -shift), cost.rule)

    def span(self, offered: npt.NDArray[np.bool_]) -> int:
        """Largest possible total minus smallest, an upper bound with edges."""
        big = np.iinfo(np.int64).max
        low = np.where(offered, self.table, big).min(axis=1)
        high = np.where(offered, self.table, -big).max(axis=1)
        if self.rule == "max":
            return int(high.max() - low.max())
        return int((high - low).sum()) + sum(int(np.ptp(e)) for e in self.edges.values())


def _snap(values: Floats, shift: int) -> Ints:
    return np.rint(np.ldexp(values, shift)).astype(np.int64)


def _offered_part(problem: Problem, edge: Edge) -> Floats:
    pairs = np.outer(problem.offered[edge.first], problem.offered[edge.second])
    return np.where(pairs, edge.cost, 0.0)


@dataclass(frozen=True)
class _Step:
    """One merge: a group, and what it does to the joint state of the open groups.

    Attributes:
        group: the group added.
        open: groups whose choices the state lists before this merge.
        keep: positions of ``open + (group,)`` that the state lists afterwards.
    """

    group: int
    open: tuple[int, ...]
    keep: tuple[int, ...]


def _steps(problem: Problem) -> list[_Step]:
    """Joined groups first, in order; then free groups, small ranges first."""
    pairs = {tuple(sorted((e.first, e.second))) for cost in problem.costs for e in cost.edges}
    joined = sorted({group for pair in pairs for group in pair})
    last = {g: max(max(pair) for pair in pairs if g in pair) for g in joined}
    steps, opened = [], tuple[int, ...]()
    for group in joined:
        after = (*opened, group)
        keep = tuple(i for i, g in enumerate(after) if last[g] > group)
        _check_states(problem, after)
        steps.append(_Step(group, opened, keep))
        opened = tuple(after[i] for i in keep)
    free = sorted(set(range(problem.groups)) - set(joined), key=lambda g: (_range(problem, g), g))
    return steps + [_Step(group, (), ()) for group in free]


def _check_states(problem: Problem, groups: Sequence[int]) -> None:
    states = math.prod(int(problem.offered[g].sum()) for g in groups)
    if states > MAX_STATES:
        raise UsageError(
            f"transition costs keep {len(groups)} groups open at once, {states} joint choices",
            where=", ".join(problem.name(g) for g in groups),
            expected=f"at most {MAX_STATES} joint choices",
            fix="offer fewer choices there, or join only neighbouring groups",
        )


def _range(problem: Problem, group: int) -> float:
    """Range of a group's first cost: merging small ranges first keeps early fronts small."""
    return float(np.ptp(problem.costs[0].table[group, problem.offered[group]]))


@dataclass(frozen=True)
class _Level:
    """Back-pointers of one merge: ``parent[n]`` into the level before, ``choice[n]``."""

    group: int
    parent: npt.NDArray[np.int32]
    choice: AnyCodes


@dataclass(frozen=True)
class _Run:
    """A front moved by one choice: ``points[K + 1, n]``, whose parents begin at ``start``."""

    start: int
    choice: int
    points: Ints


class _Merge:
    """The fronts of partial policies, one per state, and how they came about."""

    def __init__(
        self, problem: Problem, grids: Sequence[_Grid], epsilon: float, max_points: int
    ) -> None:
        self._problem, self._grids, self._max_points = problem, grids, max_points
        self._score = _Grid.of(problem, Cost(problem.score))
        spans = np.array([grid.span(problem.offered) for grid in grids], dtype=np.float64)
        self._widths = np.floor(spans * (epsilon / problem.groups)).astype(np.int64)
        self._spans = spans
        self._is_max = [grid.rule == "max" for grid in grids] + [False]
        start = [int(grid.table.min()) if grid.rule == "max" else 0 for grid in grids] + [0]
        self._fronts: dict[State, Ints] = {(): np.array(start, dtype=np.int64)[:, None]}
        self._levels: list[_Level] = []
        self._narrow = np.min_scalar_type(problem.score.shape[1] - 1)
        self.lost = np.zeros(len(grids), dtype=np.int64)

    def add(self, step: _Step) -> None:
        """Extends every front by every choice of one group."""
        runs: dict[State, list[_Run]] = {}
        start = 0
        for state, front in self._fronts.items():
            for choice, shift in self._options(step, state):
                after = (*state, choice)
                key = tuple(after[i] for i in step.keep)
                runs.setdefault(key, []).append(_Run(start, choice, self._moved(front, shift)))
            start += front.shape[1]
        room = max(1, self._max_points // len(runs))
        pruned = {key: self._pruned(items, room) for key, items in runs.items()}
        self._fronts = {key: points for key, (points, _, _, _) in pruned.items()}
        parents, choices, losses = zip(*(p[1:] for p in pruned.values()), strict=True)
        self.lost += np.max(losses, axis=0)
        parent = np.concatenate(parents).astype(np.int32)
        taken = np.concatenate(choices).astype(self._narrow)
        self._levels.append(_Level(step.group, parent, taken))

    def codes(self) -> AnyCodes:
        """Choices of every point of the final front, ``int[P, groups]``."""
        index = np.arange(self._fronts[()].shape[1], dtype=np.int32)
        codes = np.empty((self._problem.groups, len(index)), dtype=self._narrow)
        for level in reversed(self._levels):
            codes[level.group] = level.choice[index]
            index = level.parent[index]
        return codes.T

    def _options(self, step: _Step, state: State) -> Iterator[tuple[int, Ints]]:
        """Choices worth merging and what each adds, ``int64[K + 1]``."""
        choices = np.flatnonzero(self._problem.offered[step.group])
        grids = [*self._grids, self._score]
        shifts = np.stack([grid.table[step.group, choices] for grid in grids])
        for row, grid in zip(shifts, grids, strict=True):
            for other, taken in zip(step.open, state, strict=True):
                if (other, step.group) in grid.edges:
                    row += grid.edges[other, step.group][taken, choices]
        # A choice with an open future may cost more now and less later.
        useful = range(len(choices)) if step.keep else np.sort(nondominated(shifts))
        return ((int(choices[i]), shifts[:, i]) for i in useful)

    def _moved(self, front: Ints, shift: Ints) -> Ints:
        moved = front + shift[:, None]
        for row, is_max in enumerate(self._is_max):
            if is_max:
                np.maximum(front[row], shift[row], out=moved[row])
        return moved

    def _pruned(self, runs: Sequence[_Run], room: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Points that survive, their parents and choices, and what thinning lost."""
        hopeful = list(zip(runs, screen([run.points for run in runs]), strict=True))
        points = np.concatenate([run.points[:, some] for run, some in hopeful], axis=1)
        parents = np.concatenate([run.start + some for run, some in hopeful])
        choices = np.repeat([run.choice for run in runs], [len(some) for _, some in hopeful])
        keep = nondominated(points)
        chosen, lost = self._thinned(points[:, keep], room)
        keep = keep[chosen]
        return points[:, keep], parents[keep], choices[keep], lost

    def _thinned(self, points: Ints, room: int) -> tuple[Ints, Ints]:
        """Positions kept within the error allowed per merge, and within ``room`` at any error."""
        widths = self._widths
        n = points.shape[1]
        chosen, lost = np.arange(n), np.zeros(len(widths), dtype=np.int64)
        if widths.any():
            chosen, lost = thin(points, widths)
        while len(chosen) > room and (widths <= self._spans).any():
            widths = np.maximum(
                2 * widths, np.maximum(self._spans / (8 * room), 1).astype(np.int64)
            )
            chosen, lost = thin(points, widths)
        return chosen, lost
