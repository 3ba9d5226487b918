"""The one block of data the page's script works with; plots and panels are redrawn from it.

Policies travel as code strings, columns as arrays of numbers with six significant digits: 5,000
candidates of 60 layers stay below one megabyte.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from reports import numbers, theme
from reports.data import ReportData, axis_label, tolerance_of
from reports.figures.front import limits
from reports.figures.policy import NARROWEST, default_selection
from reports.fronts import cost_objective, positions
from reports.orders import layer_orders
from reports.origins import origins
from search.objectives import OBJECTIVES

QUALITIES = tuple(name for name, item in OBJECTIVES.items() if not item.is_cost)
MEASURED = "latency_measured_ms"
TICKS = {"size_bytes": ["~s", "B"], "peak_bytes": ["~s", "B"], "bops": ["~s", ""]}


def build_payload(data: ReportData) -> dict[str, Any]:
    """Everything ``page.js`` needs, as plain JSON data."""
    table = data.unique
    strategies = ["baseline", *data.strategies()]
    costs = [name for name in cost_columns(data) if table[name].notna().any()]
    styles = theme.styles(strategies[1:])
    return {
        "run": data.path,
        "study": data.name,
        "command": str(data.manifest.get("command", "")),
        "quality": data.quality,
        "metric": str(data.manifest.get("task", {}).get("metric", "accuracy")),
        "costs": list(data.costs),
        "axes": [_axis(data, name) for name in [*costs, *_measured(data), *QUALITIES]],
        "strategies": strategies,
        "styles": {name: [item.colour, item.mark] for name, item in styles.items()},
        "columns": _columns(data, table, costs),
        "strategy": [strategies.index(name) for name in table["strategy"]],
        "space": _space(data),
        "tables": {name: _rows(values) for name, values in sorted(data.tables.items())},
        "scores": _scores(data),
        "origins": _origins(data),
        "orders": layer_orders(data),
        "fronts": {c: positions(table, ids) for c, ids in data.front.fronts.items()},
        "picks": {c: _picks(data, table, c) for c in data.costs},
        "limits": {c: list(limits(data, c)) for c in data.costs},
        "tests": _tests(data, table),
        "float": _row(table, data.front.float_id),
        "int8": _row(table, data.front.int8_id),
        "selected": _row(table, default_selection(data, data.costs[0])),
        "tolerance": tolerance_of(data.config),
        "bits": {str(bits): colour for bits, colour in theme.BITS.items()},
        "accent": theme.ACCENT,
        "muted": theme.BASELINE,
        "templates": {
            "light": theme.template(theme.LIGHT),
            "dark": theme.template(theme.DARK),
        },
    }


def cost_columns(data: ReportData) -> list[str]:
    """Cost columns of the candidate table: metrics of the fronts first, then all other known."""
    known = [
        name for name in data.table.columns if cost_objective(name).name in data.table.columns
    ]
    costs = [name for name in known if name.partition("@")[0] in OBJECTIVES]
    costs = [name for name in costs if OBJECTIVES[name.partition("@")[0]].is_cost]
    return list(dict.fromkeys([*(c for c in data.costs if c in costs), *costs]))


def _axis(data: ReportData, name: str) -> dict[str, Any]:
    if name == MEASURED:
        label, is_cost, maximise = "measured latency (ms), end to end", True, False
    else:
        item = cost_objective(name)
        label = axis_label(name, data.front.costs.get(name))
        is_cost, maximise = item.is_cost, item.maximise
    form, suffix = TICKS.get(name.partition("@")[0], ["", ""])
    return {
        "name": name,
        "label": label,
        "cost": is_cost,
        "maximise": maximise,
        "format": form,
        "suffix": suffix,
    }


def _measured(data: ReportData) -> list[str]:
    return [MEASURED] if data.latency_check is not None and len(data.latency_check) else []


def _columns(data: ReportData, table: pd.DataFrame, costs: Iterable[str]) -> dict[str, list[Any]]:
    columns = {name: _compact(table[name]) for name in [*QUALITIES, *costs]}
    for name in ("standard_error", "mean_weight_bits", "mean_activation_bits", "wall_s"):
        columns[name] = _compact(table[name], 4)
    for name in ("policy_id", "codes", "tag"):
        columns[name] = table[name].fillna("").tolist()
    for name in ("seed", "n", "seq"):
        columns[name] = [int(value) for value in table[name]]
    columns["ok"] = [int(status == "ok") for status in table["status"]]
    columns["searchable"] = [int(inside) for inside in table["searchable"]]
    for name in _measured(data):
        columns[name] = _measured_column(data, table)
    return columns


def _measured_column(data: ReportData, table: pd.DataFrame) -> list[Any]:
    check = data.latency_check
    assert check is not None
    measured = dict(zip(check["policy_id"], check["measured_ms"], strict=True))
    return [numbers.compact(measured.get(policy_id)) for policy_id in table["policy_id"]]


def _compact(values: pd.Series[Any], digits: int = 6) -> list[Any]:
    return [numbers.compact(value, digits) for value in values.tolist()]


def _rows(values: np.ndarray) -> list[list[Any]]:
    return [[numbers.compact(value) for value in row] for row in values.tolist()]


def _space(data: ReportData) -> dict[str, Any]:
    space = data.space
    return {
        "name": space.name,
        "layers": [
            [layer.name, layer.op, layer.weight_count, layer.macs, space.group_of[layer.name]]
            for layer in space.layers
        ],
        "groups": [
            {
                "choices": [choice.text for choice in group.all_choices],
                "labels": [choice.label for choice in group.all_choices],
                "w": [choice.weight.bits for choice in group.all_choices],
                "a": [choice.activation.bits for choice in group.all_choices],
            }
            for group in space.groups
        ],
        "narrowest": NARROWEST,
    }


def _origins(data: ReportData) -> dict[str, Any]:
    """``{metric: {"marks": [[mark, reason]], "of": [layers][choices] -> position in marks}}``."""
    found = {}
    for cost in data.costs:
        if cost.startswith("latency_ms"):
            table = [[(o.mark, o.reason) for o in row] for row in origins(data, cost)]
            marks = list(dict.fromkeys(pair for row in table for pair in row))
            found[cost] = {"marks": marks, "of": [[marks.index(p) for p in row] for row in table]}
    return found


def _scores(data: ReportData) -> dict[str, list[list[Any]]]:
    """``{kind: [groups][choices]}`` of the stored sensitivities; null where none was computed."""
    if data.sensitivity is None:
        return {}
    found: dict[str, list[list[Any]]] = {}
    for kind, rows in data.sensitivity.groupby("kind", sort=True):
        values = {
            (int(g), c): v
            for g, c, v in zip(rows["group"], rows["choice"], rows["value"], strict=True)
        }
        found[str(kind)] = [
            [numbers.compact(values.get((g, choice.text))) for choice in group.all_choices]
            for g, group in enumerate(data.space.groups)
        ]
    return found


def _tests(data: ReportData, table: pd.DataFrame) -> dict[str, Any]:
    """Test-split values by row: accuracy with interval, ce with error, kl, n."""
    found = {}
    for policy_id, entry in data.front.policies.items():
        row, test = _row(table, policy_id), entry.get("test")
        if row is None or test is None:
            continue
        low, high = numbers.accuracy_interval(test)
        found[str(row)] = {
            "accuracy": numbers.compact(test["accuracy"]),
            "accuracy_low": numbers.compact(low),
            "accuracy_high": numbers.compact(high),
            "ce": numbers.compact(test["ce"]),
            "kl": numbers.compact(test["kl"]),
            "standard_error": numbers.compact(test["standard_error"]),
            "n": int(test["n"]),
        }
    return found


def _picks(data: ReportData, table: pd.DataFrame, cost: str) -> list[int]:
    return positions(table, [pick.policy_id for pick in data.front.picks if pick.cost == cost])


def _row(table: pd.DataFrame, policy_id: str | None) -> int | None:
    rows = positions(table, [policy_id]) if policy_id else []
    return rows[0] if rows else None
