"""Objectives: name, unit, direction, how a number is printed. Everything minimises inside."""

from __future__ import annotations

from dataclasses import dataclass, replace

from quant.errors import unknown


@dataclass(frozen=True, slots=True)
class Objective:
    """One axis of a front.

    Attributes:
        name: column name in the records.
        title: words for an axis label, without the unit.
        unit: unit for an axis label; empty for pure numbers.
        maximise: true when larger is better; converted by :meth:`to_min`.
        is_cost: true for costs (from a cost model), false for qualities (from evaluation).
    """

    name: str
    title: str
    unit: str
    maximise: bool = False
    is_cost: bool = False

    def to_min(self, value: float) -> float:
        """Returns ``value`` as something to minimise."""
        return -value if self.maximise else value


OBJECTIVES = {
    item.name: item
    for item in (
        Objective("ce", "cross-entropy", "nats"),
        Objective("kl", "KL to the float model", "nats"),
        Objective("accuracy", "accuracy", "share", maximise=True),
        Objective("size_bytes", "weight size", "bytes", is_cost=True),
        Objective("latency_ms", "predicted latency", "ms", is_cost=True),
        Objective("bops", "bit operations", "BOPs", is_cost=True),
        Objective("energy_mj", "energy", "mJ", is_cost=True),
        Objective("peak_bytes", "peak activation memory", "bytes", is_cost=True),
    )
}


def objective(name: str) -> Objective:
    """Looks an objective up by name; ``latency_ms@board`` is the cost on device ``board``.

    Raises:
        UsageError: unknown name, with the nearest match.
    """
    base, _, device = name.partition("@")
    if base not in OBJECTIVES:
        raise unknown("objective", name, OBJECTIVES, where="objective")
    found = OBJECTIVES[base]
    return replace(found, name=name, title=f"{found.title} on {device}") if device else found
