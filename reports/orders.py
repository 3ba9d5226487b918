"""Orders in which the layers of a run can be listed."""

from __future__ import annotations

import numpy as np

from reports.data import ReportData

EXECUTION, BLOCK = "execution", "block"


def layer_orders(data: ReportData) -> dict[str, list[int]]:
    """Layer positions by order: ``execution``, ``block``, and one per stored score.

    Blocks are what stands before the last dot of a name, in the order they first run. By a score
    the most sensitive layers come first, judged at their fewest weight bits; layers of one tie
    group share their value and keep their order.
    """
    layers = data.space.layers
    first: dict[str, int] = {}
    for position, layer in enumerate(layers):
        first.setdefault(block_of(layer.name), position)
    by_block = sorted(range(len(layers)), key=lambda i: first[block_of(layers[i].name)])
    orders = {EXECUTION: list(range(len(layers))), BLOCK: by_block}
    return orders | {kind: _descending(values) for kind, values in _harm(data).items()}


def block_of(name: str) -> str:
    """Name of the module a layer stands in: ``stage1.0`` for ``stage1.0.conv1``."""
    return name.rpartition(".")[0]


def _harm(data: ReportData) -> dict[str, list[float]]:
    """Score of every layer at the fewest weight bits it is offered, by kind."""
    if data.sensitivity is None:
        return {}
    groups = data.space.groups
    lowest = [min(g.choices, key=lambda c: c.weight.bits).text for g in groups]
    found = {}
    for kind, rows in data.sensitivity.groupby("kind", sort=True):
        at_lowest = rows[rows["choice"] == [lowest[g] for g in rows["group"]]]
        value = dict(zip(at_lowest["group"].tolist(), at_lowest["value"].tolist(), strict=True))
        member = (data.space.group_of[layer.name] for layer in data.space.layers)
        found[str(kind)] = [float(value.get(g, np.nan)) for g in member]
    return found


def _descending(values: list[float]) -> list[int]:
    order: list[int] = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable").tolist()
    return order
