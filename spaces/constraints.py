"""Hard limits on costs: parsing, the reachable range, and which policies satisfy them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from quant.errors import InfeasibleError, UsageError, unknown
from spaces.space import SearchSpace

Floats = npt.NDArray[np.float64]
METRICS = ("size_bytes", "bops", "latency_ms", "energy_mj", "peak_bytes")
MAXIMA = ("peak_bytes",)
"""Metrics whose policies cost as much as their dearest group, not the sum of all."""
BINDING_SHOWN = 3
TOLERANCE = 1e-12
"""Relative slack of a limit: sums of the same costs differ in their last bits."""
PRICE_STEPS = 200


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


def rule_of(metric: str) -> Literal["sum", "max"]:
    """How the costs of groups combine to that of a policy."""
    return "max" if metric in MAXIMA else "sum"


def combined(metric: str, costs: Floats) -> Floats:
    """Cost of policies from those of their groups, ``float[P, groups] -> float[P]``."""
    total: Floats = costs.max(axis=1) if rule_of(metric) == "max" else costs.sum(axis=1)
    return total


def reachable(
    table: Floats, sizes: npt.NDArray[np.int64], metric: str = ""
) -> tuple[float, float]:
    """Least and greatest cost of a policy by ``table[groups, choices]``, searchable choices."""
    low, high = _ends(table, sizes)
    if rule_of(metric) == "max":
        return float(low.max()), float(high.max())
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
        InfeasibleError: prints the reachable range and the groups that need most, or says that
            limits contradict each other.
    """
    absolute = []
    for item in constraints:
        if item.metric not in tables:
            raise unknown("metric", item.metric, tables, where="space.constraints")
        unit = float_costs[item.metric] if item.relative else 1.0
        low, high = reachable(tables[item.metric], space.sizes, item.metric)
        if item.limit * unit * (1 + TOLERANCE) < low:
            share = f" ({_up(low / unit)}x)" if item.relative else ""
            raise InfeasibleError(
                f"{item.metric} <= {item.limit * unit:g} cannot be reached",
                where=f"space.constraints.{item.metric}",
                expected=f"{_up(low)} to {high:g}; at their cheapest, most is taken by "
                + _binding(tables[item.metric], space),
                fix=f"set the limit to at least {_up(low)}{share}, or offer cheaper choices",
            )
        absolute.append(Constraint(item.metric, item.limit * unit))
    _check_together(absolute, tables, space)
    return tuple(absolute)


def _up(value: float) -> str:
    """Six digits, rounded up: a limit that is typed back must be reachable."""
    return f"{float(Context(prec=6, rounding=ROUND_CEILING).create_decimal_from_float(value)):g}"


def _check_together(
    limits: Sequence[Constraint], tables: Mapping[str, Floats], space: SearchSpace
) -> None:
    """Refuses limits no policy meets at once, by a Lagrangian bound.

    With prices summing to 1, the cheapest policy of the priced costs (each as a share of its
    limit) costs at most 1 if any policy meets all limits. Prices rise on what is over its limit
    (multiplicative weights) until a policy fits or the bound exceeds 1; limits that fail only
    for want of the right integers pass and show during the search.
    """
    every = limits
    if len(limits) < 2:
        return
    offered = np.arange(int(next(iter(tables.values())).shape[1])) < space.sizes[:, None]
    for item in limits:
        if rule_of(item.metric) == "max":
            offered &= tables[item.metric] <= item.limit * (1 + TOLERANCE)
    limits = [item for item in limits if rule_of(item.metric) == "sum"]
    if not limits:
        return
    shares = np.stack([tables[item.metric] / item.limit for item in limits])
    price = np.full(len(limits), 1 / len(limits))
    groups = np.arange(shares.shape[1])
    for _ in range(PRICE_STEPS):
        priced = np.where(offered, np.tensordot(price, shares, axes=1), np.inf)
        used = shares[:, groups, priced.argmin(axis=1)].sum(axis=1)
        bound = float(price @ used)
        if bound > 1 + TOLERANCE:
            wanted = " and ".join(f"{item.metric} <= {item.limit:g}" for item in every)
            raise InfeasibleError(
                f"no policy satisfies {wanted} at once, though each can be reached alone",
                where="space.constraints",
                expected=f"limits at least {bound:.3f} times these, taken together",
                fix="loosen one of them, or offer choices that are cheap in all",
            )
        if (used <= 1 + TOLERANCE).all():
            return
        price *= np.exp(used - used.max())
        price /= price.sum()


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
        mask &= costs[item.metric] <= item.limit * (1 + TOLERANCE)
    return mask
