"""Costs per layer: what the additive tables say about the members of a tie group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search.pareto import Floats

if TYPE_CHECKING:
    import numpy.typing as npt

    from reports.data import ReportData


def layer_costs(data: ReportData, cost: str, codes: npt.NDArray[np.int64]) -> Floats:
    """Additive cost of each layer under ``codes[groups]``, ``float[layers]``.

    A tie group's cost is split over its layers by weights (size) or by MACs (all others).
    Without a table of ``cost`` the weight counts stand in.
    """
    table = data.tables.get(cost)
    layers = data.space.layers
    member = np.array([data.space.group_of[layer.name] for layer in layers])
    by_weight = cost.startswith("size") or table is None
    mass = np.array([x.weight_count if by_weight else x.macs for x in layers], dtype=np.float64)
    total = np.bincount(member, weights=mass, minlength=len(data.space.groups))
    part = mass / np.where(total > 0, total, 1.0)[member]
    group_cost = total if table is None else table[np.arange(len(codes)), codes]
    costs: Floats = np.nan_to_num(group_cost[member] * part)
    return costs
