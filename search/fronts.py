"""Fronts, reference points, hypervolumes and picked points of a candidate table.

Reference points are fixed by the space before anything is evaluated: the ideal is the float
model's loss and the cheapest policy's cost, the nadir is the loss of guessing and the dearest
policy's cost (float32's where all policies cost the same), and the reference lies 5 % of the
range beyond the nadir.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hw_profiles.cost import CostModel
from search.objectives import objective
from search.pareto import front_indices, knee_index, normalised_hypervolume
from spaces.baselines import float_codes
from spaces.constraints import reachable
from spaces.space import SearchSpace

Floats = npt.NDArray[np.float64]
MARGIN = 0.05
FLAT = 0.01
"""Relative range below which a cost does not tell policies of a space apart."""


@dataclass(frozen=True)
class Reference:
    """Fixed bounds of one (loss, cost) plane; both axes are minimised.

    Attributes:
        ideal: ``(loss, cost)`` that cannot be beaten by much.
        point: ``(loss, cost)`` of the reference point.
        why: how the two were chosen, in words.
    """

    ideal: tuple[float, float]
    point: tuple[float, float]
    why: str


def reference_for(
    space: SearchSpace,
    costs: CostModel,
    metric: str,
    quality: str,
    float_loss: float,
    classes: int,
) -> Reference:
    """Fixed bounds for one cost metric; see the module docstring."""
    low, high = cost_range(space, costs, metric)
    dearest = "the dearest policy"
    if high - low < FLAT * high:
        dearest = "the float32 model (all policies of the space cost the same)"
        high = max(high, float(costs.costs(float_codes(space)[None, :])[metric][0]))
    guess = {"ce": math.log(classes), "kl": math.log(classes), "accuracy": -1.0 / classes}[quality]
    ideal = (float_loss, low)
    point = (guess + MARGIN * (guess - float_loss), high + MARGIN * (high - low))
    why = (
        "ideal: loss of the float model and cost of the cheapest policy; reference: loss of "
        f"guessing and cost of {dearest}, plus 5 % of either range"
    )
    return Reference(ideal, point, why)


def cost_range(space: SearchSpace, costs: CostModel, metric: str) -> tuple[float, float]:
    """Least and greatest cost of a policy of the space by its table."""
    return reachable(costs.table(metric), space.sizes, metric)


def plane(table: pd.DataFrame, quality: str, metric: str) -> Floats:
    """Points ``float[n, 2]`` as (loss to minimise, cost)."""
    sign = objective(quality).to_min(1.0)
    points: Floats = table[[quality, metric]].to_numpy(dtype=np.float64) * np.array([sign, 1.0])
    return points


def front_rows(table: pd.DataFrame, quality: str, metric: str) -> list[int]:
    """Row positions of the front in (cost, loss), by rising cost.

    Only successful candidates of the space count; baselines outside it (float) do not.
    """
    usable = np.flatnonzero(
        (table["status"] == "ok").to_numpy() & table["searchable"].to_numpy(dtype=bool)
    )
    points = plane(table.iloc[usable], quality, metric)[:, ::-1]
    return [int(usable[i]) for i in front_indices(points)]


def covered(part: pd.DataFrame, quality: str, metric: str, reference: Reference) -> float:
    """Normalised hypervolume of the front of some candidates."""
    points = plane(part.iloc[front_rows(part, quality, metric)], quality, metric)
    return normalised_hypervolume(points, np.array(reference.ideal), np.array(reference.point))


def hypervolumes(
    table: pd.DataFrame, quality: str, metric: str, reference: Reference
) -> dict[str, object]:
    """Normalised hypervolume of all candidates together and of every trial alone."""

    def share(part: pd.DataFrame) -> float:
        return covered(part, quality, metric, reference)

    by_trial = {
        f"{strategy}-{seed}": share(part)
        for (strategy, seed), part in table.groupby(["strategy", "seed"], sort=True)
        if strategy != "baseline"
    }
    return {"all": share(table), "by_trial": by_trial}


@dataclass(frozen=True)
class Pick:
    """A point of a front chosen by rule.

    Attributes:
        role: ``"accurate"``, ``"knee"`` or ``"smallest"``.
        cost: the cost metric of the front it was picked from.
        row: row position in the candidate table.
    """

    role: str
    cost: str
    row: int


def picks(
    table: pd.DataFrame,
    rows: Sequence[int],
    quality: str,
    metric: str,
    *,
    float_accuracy: float,
    tolerance: float,
    worst: float = math.inf,
) -> list[Pick]:
    """Most accurate, knee, and cheapest within ``tolerance`` accuracy of the float model.

    The knee is looked for among points with a loss below ``worst``, where there are any: a
    policy worse than guessing is no compromise. The third pick is missing when no front point
    is that accurate.
    """
    if not rows:
        return []
    front = table.iloc[list(rows)]
    points = plane(front, quality, metric)
    chosen = [
        Pick("accurate", metric, rows[int(np.argmin(points[:, 0]))]),
        Pick("knee", metric, rows[_knee(points, worst)]),
    ]
    close = np.flatnonzero(front["accuracy"].to_numpy() >= float_accuracy - tolerance)
    if len(close):
        cheapest = close[int(np.argmin(points[close, 1]))]
        chosen.append(Pick("smallest", metric, rows[int(cheapest)]))
    return chosen


def add_front(
    front: dict[str, Any],
    table: pd.DataFrame,
    rows: Sequence[int],
    metric: str,
    reference: Reference,
    tolerance: float,
) -> None:
    """Adds the front of one cost to the content of ``front.json``.

    Args:
        front: gains ``reference``, ``fronts``, ``hypervolume`` and ``picks`` of the metric; its
            ``quality`` is read.
        table: candidates, the float model tagged ``fp32`` among them.
        rows: of the front, by rising cost.
        metric: the cost.
        reference: hypervolumes are measured against it.
        tolerance: of the smallest pick, see :func:`picks`.
    """
    quality, ids = front["quality"], table["policy_id"].tolist()
    front["reference"][metric] = {
        "point": reference.point,
        "ideal": reference.ideal,
        "why": reference.why,
    }
    front["fronts"][metric] = [ids[row] for row in rows]
    front["hypervolume"][metric] = hypervolumes(table, quality, metric, reference)
    chosen = picks(
        table,
        rows,
        quality,
        metric,
        float_accuracy=float(table["accuracy"].iloc[by_tag(table)["fp32"]]),
        tolerance=tolerance,
        worst=reference.point[0],
    )
    front["picks"] += [
        {"role": pick.role, "cost": metric, "policy_id": ids[pick.row]} for pick in chosen
    ]


def _knee(points: Floats, worst: float) -> int:
    useful = np.flatnonzero(points[:, 0] < worst)
    if not len(useful):
        return knee_index(points)
    return int(useful[knee_index(points[useful])])


def by_tag(table: pd.DataFrame) -> Mapping[str, int]:
    """Row position of each tagged baseline."""
    return {
        tag: position
        for position, (tag, status) in enumerate(zip(table["tag"], table["status"], strict=True))
        if tag and status == "ok"
    }
