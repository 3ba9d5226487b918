"""The ladder: fronts by the cheap method that ranked and by the dear one of the last rung."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reports import numbers, theme
from reports.data import axis_label
from reports.figure import Table, blank
from reports.fronts import cost_objective
from search.objectives import objective
from search.pareto import Floats

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reports.data import ReportData

ORDER = 15


@dataclass(frozen=True)
class LadderInfo:
    """Two fronts of one cost.

    Attributes:
        cost, quality: metrics.
        methods: names of the first and of the last rung's method.
        first, last: ``float[n, 2]`` of cost and quality on search-validation, by rising cost.
        policy_ids: of ``last``.
        tests: accuracy on the test split of ``last``, written.
        agreements: how far rungs rank alike, in sentences.
    """

    cost: str
    quality: str
    methods: tuple[str, str]
    first: Floats
    last: Floats
    policy_ids: tuple[str, ...]
    tests: tuple[str, ...]
    agreements: tuple[str, ...]


@dataclass(frozen=True)
class LadderFigure:
    """See the module docstring."""

    cost: str
    name: str = "ladder"
    title: str = "After the last rung"
    question: str = "Does the dearer method move the front, and does it rank as the cheap one?"
    height: int = 380

    def applicable(self, data: ReportData) -> str | None:
        """None, or why there is no second rung."""
        ladder = data.front.ladder
        if not ladder or not ladder["fronts"].get(self.cost):
            return "The run has one rung."
        return None

    def prepare(self, data: ReportData) -> LadderInfo:
        """Both fronts with the values each rung gave."""
        ladder, quality = data.front.ladder, data.quality

        def points(ids: Any, policies: Mapping[str, Any]) -> Floats:
            rows = [(policies[i][self.cost], policies[i][quality]) for i in ids]
            return np.array(rows, dtype=np.float64).reshape(-1, 2)

        ids = tuple(ladder["fronts"][self.cost])
        found = ladder["policies"]
        return LadderInfo(
            self.cost,
            quality,
            (str(data.manifest.get("method", {}).get("name", "first rung")), ladder["method"]),
            points(data.front.fronts.get(self.cost, ()), data.front.policies),
            points(ids, found),
            ids,
            tuple(numbers.accuracy(found[i]["test"]) if "test" in found[i] else "–" for i in ids),
            tuple(_agreement(item) for item in ladder["agreements"]),
        )

    def plot(self, info: LadderInfo) -> go.Figure:
        """Two staircases."""
        figure = blank(
            self.height,
            xaxis_title=axis_label(info.cost),
            yaxis_title=f"{objective(info.quality).title} on search-validation",
        )
        for index, (name, points) in enumerate(
            zip(info.methods, (info.first, info.last), strict=True)
        ):
            figure.add_scatter(
                x=points[:, 0],
                y=points[:, 1],
                name=name,
                mode="lines+markers",
                line={"shape": "hv", "width": 2, "color": theme.SERIES[index]},
                marker={"size": 7, "symbol": ("circle", "square")[index]},
                hovertemplate="%{x:.4s}: %{y:.3f}<extra></extra>",
            )
        return figure

    def alt(self, info: LadderInfo) -> str:
        """Best values and agreement in words."""
        pick = np.max if objective(info.quality).maximise else np.min
        best = [numbers.number(float(pick(p[:, 1]))) for p in (info.first, info.last) if len(p)]
        told = " against ".join(best)
        return (
            f"Fronts in {cost_objective(info.cost).title} by {info.methods[0]} and by "
            f"{info.methods[1]}; best {objective(info.quality).title} {told}. "
            + " ".join(info.agreements)
        )

    def table(self, info: LadderInfo) -> Table:
        """The front of the last rung."""
        columns = ("policy", info.cost, info.quality, "accuracy on the test split")
        rows = tuple(
            (policy_id, numbers.cost(info.cost, cost), numbers.number(quality), tested)
            for policy_id, (cost, quality), tested in zip(
                info.policy_ids, info.last.tolist(), info.tests, strict=True
            )
        )
        return Table(columns, rows, " ".join(info.agreements))


def variants(data: ReportData) -> list[LadderFigure]:
    """One per front where a run has several rungs."""
    return [LadderFigure(cost) for cost in data.costs] if data.front.ladder else []


def _agreement(item: Mapping[str, Any]) -> str:
    pair = f"{item['lower']} and {item['upper']}"
    tau, low, high = (item.get(key) for key in ("kendall_tau", "low", "high"))
    if tau is None:
        return f"How far {pair} rank alike is undefined over {item['n']} policies."
    interval = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    return f"{pair} rank {item['n']} policies alike to a Kendall tau of {tau:.2f}{interval}."
