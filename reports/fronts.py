"""What ``front.json`` holds, as frozen data; and the same rebuilt from a candidate table.

Rebuilding serves runs in progress, runs whose ``front.json`` is lost, and ``--check``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from search.fronts import by_tag, front_rows
from search.fronts import picks as pick_rows
from search.objectives import OBJECTIVES, Objective, objective

if TYPE_CHECKING:
    import pandas as pd

ROLES = ("accurate", "knee", "smallest")
MEASURED = "measured"


@dataclass(frozen=True)
class CostInfo:
    """Where the numbers of one cost come from.

    Attributes:
        kind: ``computed``, or the provenance of a table: ``measured``, ``interpolated``,
            ``simulated``, ``published``, ``mixed``.
        detail: one line for people.
        data: everything else that was stored.
    """

    kind: str = "unknown"
    detail: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """Fixed bounds of a (loss, cost) plane, both minimised."""

    ideal: tuple[float, float]
    point: tuple[float, float]
    why: str = ""


@dataclass(frozen=True)
class Pick:
    """A front point chosen by rule; ``role`` is one of :data:`ROLES`."""

    role: str
    cost: str
    policy_id: str


@dataclass(frozen=True)
class Front:
    """Fronts of a run and the points named on them.

    Attributes:
        final: False when rebuilt from a run that has not finished.
        quality: name of the quality objective.
        costs: metrics with a front, first is the main one.
        reference: fixed bounds by metric; may lack metrics.
        fronts: policy ids by rising cost, by metric.
        hypervolume: ``{metric: {"all": share, "by_trial": {trial: share}}}`` as stored.
        picks: chosen points.
        policies: stored entries by policy id, with ``test`` where the test split was read.
        baselines: policy ids in the order they were evaluated.
        float_id: the float model, or None.
        int8_id: the uniform int8 policy, or None.
        regret: ``{metric: {metric of another device: share of hypervolume lost}}``.
        ladder: the last rung's fronts and policies as stored; empty with one rung.
    """

    final: bool
    quality: str
    costs: Mapping[str, CostInfo]
    reference: Mapping[str, Reference] = field(default_factory=dict)
    fronts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hypervolume: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    picks: tuple[Pick, ...] = ()
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    baselines: tuple[str, ...] = ()
    float_id: str | None = None
    int8_id: str | None = None
    regret: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    ladder: Mapping[str, Any] = field(default_factory=dict)

    def pick(self, role: str, cost: str) -> str | None:
        """Policy id of a picked point, None when the rule found none."""
        return next((p.policy_id for p in self.picks if (p.role, p.cost) == (role, cost)), None)


def cost_objective(metric: str) -> Objective:
    """The objective of a cost column; ``latency_ms@board`` is the cost on device ``board``."""
    name, _, device = metric.partition("@")
    if name not in OBJECTIVES:
        return Objective(metric, metric.replace("_", " "), "", is_cost=True)
    base = objective(name)
    title = f"{base.title} on {device}" if device else base.title
    return Objective(metric, title, base.unit, base.maximise, base.is_cost)


def read_front(data: Mapping[str, Any]) -> Front:
    """Reads the content of ``front.json``."""
    return Front(
        final=data.get("state") == "final",
        quality=data["quality"],
        costs={name: _cost_info(item) for name, item in data["costs"].items()},
        reference={
            name: Reference(tuple(item["ideal"]), tuple(item["point"]), item.get("why", ""))
            for name, item in data.get("reference", {}).items()
        },
        fronts={name: tuple(ids) for name, ids in data["fronts"].items()},
        hypervolume=data.get("hypervolume", {}),
        picks=tuple(Pick(p["role"], p["cost"], p["policy_id"]) for p in data.get("picks", ())),
        policies=data["policies"],
        baselines=tuple(data.get("baselines", ())),
        float_id=data.get("float"),
        int8_id=data.get("uniform_int8"),
        regret=data.get("regret", {}),
        ladder=data.get("ladder", {}),
    )


def rebuild_front(
    table: pd.DataFrame,
    quality: str,
    costs: Mapping[str, CostInfo],
    tolerance: float,
    limits: Sequence[str] = (),
    reference: Mapping[str, Reference] | None = None,
) -> Front:
    """Fronts and picks computed from a candidate table alone.

    Args:
        table: candidate table with a column per metric of ``costs``.
        quality: name of the quality objective.
        costs: metrics to build fronts for.
        tolerance: accuracy (a share) the ``smallest`` pick may lose against the float model.
        limits: budgets like ``size_bytes <= 300000``; points beyond leave the front.
        reference: fixed bounds by metric; knees are looked for below their losses.
    """
    within = feasible(table, limits)
    ids = table["policy_id"].tolist()
    tags = by_tag(table)
    rows = {
        metric: [row for row in front_rows(table, quality, metric) if within[row]]
        for metric in costs
    }
    chosen: list[Pick] = []
    bounds = reference or {}
    if "fp32" in tags:
        accuracy = float(table["accuracy"].iloc[tags["fp32"]])
        for metric, found in rows.items():
            picked = pick_rows(
                table,
                found,
                quality,
                metric,
                float_accuracy=accuracy,
                tolerance=tolerance,
                worst=bounds[metric].point[0] if metric in bounds else math.inf,
            )
            chosen += [Pick(p.role, metric, ids[p.row]) for p in picked]
    shown = sorted({row for found in rows.values() for row in found} | set(tags.values()))
    return Front(
        final=False,
        quality=quality,
        costs=costs,
        fronts={metric: tuple(ids[row] for row in found) for metric, found in rows.items()},
        picks=tuple(chosen),
        policies={ids[row]: _entry(table, row) for row in shown},
        baselines=tuple(ids[row] for row in tags.values()),
        float_id=ids[tags["fp32"]] if "fp32" in tags else None,
        int8_id=ids[tags["w8a8"]] if "w8a8" in tags else None,
    )


def feasible(table: pd.DataFrame, limits: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Rows that keep all budgets, ``bool[n]``; budgets on unknown columns are ignored."""
    kept = np.ones(len(table), dtype=np.bool_)
    for text in limits:
        name, _, limit = str(text).partition("<=")
        if name.strip() in table:
            kept &= table[name.strip()].to_numpy(dtype=np.float64) <= float(limit) * (1 + 1e-9)
    return kept


def _cost_info(item: Mapping[str, Any]) -> CostInfo:
    kind = str(item.get("provenance") or item.get("kind") or "unknown")
    return CostInfo(kind, str(item.get("detail") or _device_line(item)), item)


def _device_line(item: Mapping[str, Any]) -> str:
    words = [str(item[key]) for key in ("device", "runtime") if item.get(key)]
    words += [f"{item['threads']} thread"] if item.get("threads") == 1 else []
    words += [f"{item['threads']} threads"] if item.get("threads", 1) != 1 else []
    words += [f"batch {item['batch']}"] if "batch" in item else []
    return ", ".join(words)


def _entry(table: pd.DataFrame, row: int) -> dict[str, Any]:
    values = table.iloc[row].to_dict()
    plain = {str(k): v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
    plain["label"] = policy_label(plain["mean_weight_bits"], plain["mean_activation_bits"])
    return plain


def policy_label(weight_bits: float, activation_bits: float) -> str:
    """Short name of a mixed policy from its mean bit-widths: ``w4.2a8.0``."""
    return f"w{weight_bits:.1f}a{activation_bits:.1f}"


def positions(table: pd.DataFrame, ids: Sequence[str]) -> list[int]:
    """Row positions of policy ids; of repeated candidates the first, unknown ids are left out."""
    first: dict[str, int] = {}
    for row, policy_id in enumerate(table["policy_id"]):
        first.setdefault(policy_id, row)
    return [first[policy_id] for policy_id in ids if policy_id in first]
