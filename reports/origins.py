"""Where the latency of every choice of every layer comes from: a kernel, another, or a guess."""

from __future__ import annotations

from dataclasses import dataclass

from reports.data import ReportData
from reports.fronts import MEASURED

GENUINE, STORAGE_ONLY, INTERPOLATED = "genuine", "storage only", "interpolated"


@dataclass(frozen=True)
class Origin:
    """Origin of one table entry.

    Attributes:
        mark: ``genuine`` (measured, and the kernel computes in this format), ``storage only``
            (stored narrow, executed wider), or the provenance of a time that the device did not
            give: ``interpolated``, ``simulated``, ``published``.
        reason: why a choice is storage only, else empty.
    """

    mark: str
    reason: str = ""


def origins(data: ReportData, cost: str) -> list[list[Origin]]:
    """Origins ``[layers][choices]`` of one latency metric."""
    info = data.front.costs[cost]
    hollow = info.data.get("storage_only") or {}
    foreign = info.data.get("not_measured") or {}
    rest = GENUINE if info.kind in (MEASURED, "mixed") else info.kind

    def origin(layer: str, choice: str) -> Origin:
        reason = hollow.get(layer, {}).get(choice)
        if reason is not None:
            return Origin(STORAGE_ONLY, str(reason))
        return Origin(str(foreign.get(layer, {}).get(choice, rest)))

    space = data.space
    return [
        [origin(layer.name, c.text) for c in space.groups[space.group_of[layer.name]].all_choices]
        for layer in space.layers
    ]


def front_share(data: ReportData, cost: str, mark: str) -> float:
    """Share of (layer, choice) pairs on the front of ``cost`` with a mark, 0..1."""
    table = origins(data, cost)
    member = [data.space.group_of[layer.name] for layer in data.space.layers]
    taken = [
        table[i][codes[g]].mark == mark
        for codes in map(data.codes, data.front_table(cost)["codes"])
        for i, g in enumerate(member)
    ]
    return sum(taken) / len(taken) if taken else 0.0
