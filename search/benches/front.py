"""The exact front against integer programs: time, error under a bound, agreement.

All on random tables with a fixed seed, single process. Times are CPU seconds of this process
and its children, because CBC runs as a child. ``wa`` tables are shaped like four weight widths
by four activation widths; in ``ladder`` tables every choice is nondominated, the hard case.
"""

from __future__ import annotations

import itertools
import math
import resource
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from search.benches.base import Figure, figure, interleaved
from search.pareto import front_indices
from search.solvers.front import Front
from search.solvers.front_dp import solve_front
from search.solvers.ilp import SOLVERS, Limit, solve
from search.solvers.problem import Floats, Problem, from_tables

SUITE = "front"
RATIO_BAR = 5.0
SECONDS_BAR = 3.0
LARGE_SECONDS_BAR = 20.0
ERROR_BAR = 1e-3
AGREEMENT_BAR = 1e-6
ROUNDS = 15
LARGE_ROUNDS = 3
BUDGETS = 20
ENUMERATED = 100


def run(config: Mapping[str, Any]) -> Iterator[Figure]:
    """Yields all figures; the configuration plays no part."""
    del config
    for name, make in (("wa", grid_tables), ("ladder", ladder_tables)):
        yield from _against_ilp(f"53x16/{name}", make(np.random.default_rng(0), 53, 16))
    yield from _large(ladder_tables(np.random.default_rng(0), 300, 8))
    yield _against_enumeration()
    for groups, choices in ((8, 4), (53, 4), (53, 16)):
        problem = ladder_tables(np.random.default_rng(groups), groups, choices)
        yield from _agreement(f"{groups}x{choices}/ladder", problem)


def grid_tables(rng: np.random.Generator, groups: int, choices: int) -> Problem:
    """Harm falls fourfold per bit of either tensor, cost is bilinear; both with noise."""
    side = math.isqrt(choices)
    widths = np.arange(2, 2 + side)
    weight, activation = (axis.ravel() for axis in np.meshgrid(widths, widths))
    harm = rng.lognormal(0, 1.5, (2, groups, 1))
    shape = (groups, side * side)
    score = harm[0] * 4.0**-weight + harm[1] * 4.0**-activation
    cost = rng.lognormal(0, 1, (groups, 1)) * (weight * activation / 64 + weight / 80)
    noisy = (table * rng.lognormal(0, 0.2, shape) for table in (score, cost))
    return from_tables(next(noisy), [next(noisy)])


def ladder_tables(rng: np.random.Generator, groups: int, choices: int) -> Problem:
    """Sorted scores against sorted costs: no choice is dominated within its group."""
    score = -np.sort(-rng.lognormal(0, 1.5, (groups, choices)), axis=1)
    cost = np.sort(rng.uniform(0, 1, (groups, choices)), axis=1)
    scales = rng.lognormal(0, 1, (2, groups, 1))
    return from_tables(score * scales[0], [cost * scales[1]])


def _cpu_ns() -> int:
    """CPU time of this process and its finished children."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return int(1e9 * sum(usage.ru_utime + usage.ru_stime for usage in both))


def _against_ilp(case: str, problem: Problem) -> Iterator[Figure]:
    """The whole front against one PuLP solve, whose budget moves through the cost range."""
    cost = solve_front(problem).cost[:, 0]
    limits = itertools.cycle(cost[0] + np.array([0.5, 0.25, 0.75]) * np.ptp(cost))

    def one_program() -> None:
        solve(problem.score, [Limit(problem.costs[0], float(next(limits)))])

    seconds = interleaved([partial(solve_front, problem), one_program], ROUNDS, _cpu_ns)
    ratio = (seconds[:, 0] / seconds[:, 1]).tolist()
    yield figure(SUITE, case, "front_over_one_ilp", ratio, "ratio", bar=RATIO_BAR)
    yield figure(SUITE, case, "front_s", seconds[:, 0].tolist(), "s", bar=SECONDS_BAR)
    yield figure(SUITE, case, "one_ilp_s", seconds[:, 1].tolist(), "s")
    yield figure(SUITE, case, "points", [float(len(cost))], "points", better="higher")


def _large(problem: Problem) -> Iterator[Figure]:
    """300 groups of 8 choices: exact, with an error bound, and with a memory bound."""
    exact = solve_front(problem)
    ways: dict[str, dict[str, Any]] = {
        "default": {},
        "epsilon=.001": {"epsilon": ERROR_BAR},
        "max_points=20000": {"max_points": 20_000},
    }
    for way, bound in ways.items():
        case = f"300x8/{way}"
        seconds, front = _timed(partial(solve_front, problem, **bound))
        span = float(np.ptp(exact.cost[:, 0]))
        bars = ERROR_BAR if "max_points" not in way else None
        yield figure(SUITE, case, "front_s", seconds, "s", bar=LARGE_SECONDS_BAR)
        yield figure(SUITE, case, "guarantee", [front.error[0] / span], "share", bar=bars)
        yield figure(SUITE, case, "error", [_extra_cost(front, exact) / span], "share", bar=bars)
        yield figure(SUITE, case, "points", [float(len(front))], "points", better="higher")


def _timed(work: Callable[[], Front]) -> tuple[list[float], Front]:
    seconds, front = [], work()
    for _ in range(LARGE_ROUNDS):
        begun = _cpu_ns()
        front = work()
        seconds.append((_cpu_ns() - begun) / 1e9)
    return seconds, front


def _extra_cost(front: Front, exact: Front) -> float:
    """The most that any exact point's score costs more on ``front``."""
    first_as_good = np.searchsorted(-front.score, -exact.score)
    return float((front.cost[first_as_good, 0] - exact.cost[:, 0]).max())


def _against_enumeration() -> Figure:
    """Share of small problems whose front equals that of all policies, point for point."""
    equal = []
    for seed in range(ENUMERATED):
        rng = np.random.default_rng(seed)
        problem = ladder_tables(rng, int(rng.integers(1, 9)), int(rng.integers(2, 5)))
        front = solve_front(problem)
        points = _every_policy(problem)
        best = points[front_indices(points)]
        equal.append(float(np.array_equal(np.c_[front.cost[:, 0], front.score], best)))
    return figure(
        SUITE, "up to 8x4", "equal_to_enumeration", [float(np.mean(equal))], "share",
        bar=1.0, better="higher",
    )  # fmt: skip


def _every_policy(problem: Problem) -> Floats:
    """``(cost, score)`` of every policy by plain sums in exact order, ``float[N, 2]``."""
    choices = itertools.product(range(problem.score.shape[1]), repeat=problem.groups)
    tables = (problem.costs[0].table, problem.score)
    return np.array(
        [[math.fsum(t[g, c] for g, c in enumerate(codes)) for t in tables] for codes in choices]
    )


def _agreement(case: str, problem: Problem) -> Iterator[Figure]:
    """Largest difference between ILP and front, at budgets between attainable costs."""
    front = solve_front(problem)
    cost = front.cost[:, 0]
    places = np.linspace(0, len(cost) - 2, BUDGETS).astype(int)
    span = float(np.ptp(front.score))
    for solver in SOLVERS:
        apart = []
        for limit in (cost[places] + cost[places + 1]) / 2:
            found = solve(problem.score, [Limit(problem.costs[0], float(limit))], solver)
            apart.append(abs(found.objective - front.score[front.best([limit])]) / span)
        yield figure(SUITE, case, f"{solver}_disagrees", [max(apart)], "share", bar=AGREEMENT_BAR)
