"""Hard limits on costs: parsing, the reachable range, and which policies satisfy them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.errors import InfeasibleError, UsageError, unknown
from spaces.space import SearchSpace

Floats = npt.NDArray[np.float64]
METRICS = ("size_bytes", "bops", "latency_ms", "energy_mj", "peak_bytes")
BINDING_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Constraint:
    """``metric <= limit``.

    Attributes:
        metric: one of :data:`METRICS`.
        limit: in the metric's unit, or a share of the float32 model's cost when ``relative``.
        relative: see ``limit``.
    """

    metric: str
    limit: float
    relative: bool = False


def parse_constraints(items: Any, where: str = "space.constraints") -> tuple[Constraint, ...]:
    """Reads ``[{size_bytes: 60000}, {latency_ms: 0.5x}]``; ``x`` means times float32.

    Raises:
        UsageError: not such a list, unknown metric, or a limit that is not a positive number.
    """
    if isinstance(items, Mapping):
        items = [{key: value} for key, value in items.items()]
    if not isinstance(items, Sequence) or isinstance(items, str):
        raise UsageError(f"{where} is {items!r}", where=where, expected="a list of metric: limit")
    found = []
    for item in items:
        if not isinstance(item, Mapping):
            raise UsageError(f"{where} holds {item!r}", where=where, expected="metric: limit")
        found += [_constraint(str(metric), limit, where) for metric, limit in item.items()]
    return tuple(found)


def _constraint(metric: str, limit: Any, where: str) -> Constraint:
    place = f"{where}.{metric}"
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS, where=where)
    relative = isinstance(limit, str) and limit.strip().endswith("x")
    text = limit.strip().removesuffix("x") if isinstance(limit, str) else limit
    try:
        value = math.nan if isinstance(text, bool) else float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value) or value <= 0:
        raise UsageError(
            f"limit of {metric} is {limit!r}",
            where=place,
            expected="a number above 0, or a share of float32 such as 0.25x",
        )
    return Constraint(metric, value, relative)


def reachable(table: Floats, sizes: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Least and greatest sum over groups of ``table[groups, choices]``, searchable choices."""
    low, high = _ends(table, sizes)
    return math.fsum(low), math.fsum(high)


def _ends(table: Floats, sizes: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    offered = np.arange(table.shape[1])[None, :] < sizes[:, None]
    return (
        np.where(offered, table, np.inf).min(axis=1),
        np.where(offered, table, -np.inf).max(axis=1),
    )


def check_feasible(
    constraints: Sequence[Constraint],
    tables: Mapping[str, Floats],
    space: SearchSpace,
    float_costs: Mapping[str, float],
) -> tuple[Constraint, ...]:
    """Makes constraints absolute and refuses what no policy can satisfy.

    Args:
        constraints: as parsed.
        tables: additive cost tables ``float[groups, choices]`` by metric.
        space: the space of those groups.
        float_costs: cost of the float32 model by metric, for relative limits.

    Returns:
        The same constraints with absolute limits.

    Raises:
        UsageError: the device has no such metric.
        InfeasibleError: prints the reachable range and the groups that need most.
    """
    absolute = []
    for item in constraints:
        if item.metric not in tables:
            raise unknown("metric", item.metric, tables, where="space.constraints")
        limit = item.limit * float_costs[item.metric] if item.relative else item.limit
        low, high = reachable(tables[item.metric], space.sizes)
        if limit < low:
            raise InfeasibleError(
                f"{item.metric} <= {limit:g} cannot be reached",
                where=f"space.constraints.{item.metric}",
                expected=f"{low:g} to {high:g}; at their cheapest, most is taken by "
                + _binding(tables[item.metric], space),
                fix=f"set the limit to at least {low:g}, or offer cheaper choices",
            )
        absolute.append(Constraint(item.metric, limit))
    return tuple(absolute)


def _binding(table: Floats, space: SearchSpace) -> str:
    least, _ = _ends(table, space.sizes)
    most = np.argsort(-least)[:BINDING_SHOWN]
    return ", ".join(f"{space.groups[g].name} ({least[g]:g})" for g in most)


def feasible_mask(
    constraints: Sequence[Constraint], costs: Mapping[str, Floats]
) -> npt.NDArray[np.bool_]:
    """Which of P policies satisfy all absolute ``constraints``, ``bool[P]``."""
    count = len(next(iter(costs.values())))
    mask = np.ones(count, dtype=np.bool_)
    for item in constraints:
        mask &= costs[item.metric] <= item.limit * (1 + 1e-12)
    return mask
