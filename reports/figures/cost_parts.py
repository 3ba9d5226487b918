"""Where the cost is: layers by kind of op, for the baselines and the picked points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reports import numbers, theme
from reports.figure import Table, blank
from reports.fronts import cost_objective, positions
from reports.layers import layer_costs
from search.pareto import Floats

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from reports.data import ReportData

ORDER = 80
BETWEEN = "conversions between layers"
LARGEST = 5


@dataclass(frozen=True)
class PartsInfo:
    """Stacked costs.

    Attributes:
        cost: metric.
        policies: names of the bars.
        parts: names of the segments: the dearest layers, the rest by op, conversions.
        values: ``float[parts, policies]``.
    """

    cost: str
    policies: tuple[str, ...]
    parts: tuple[str, ...]
    values: Floats


@dataclass(frozen=True)
class PartsFigure:
    """See the module docstring."""

    cost: str
    name: str = "parts"
    title: str = "Where the cost is"
    question: str = "Which layers would have to change for the total to change?"
    height: int = 360

    def applicable(self, data: ReportData) -> str | None:
        """None, or why costs cannot be split."""
        if self.cost not in data.tables:
            return "The run holds no cost table per layer (costs.json)."
        return None

    def prepare(self, data: ReportData) -> PartsInfo:
        """Additive cost per layer; what is left of the total are the conversions."""
        rows = shown_policies(data, self.cost)
        costs = np.array([layer_costs(data, self.cost, data.codes(c)) for c in rows["codes"]])
        totals = rows[self.cost].to_numpy(dtype=np.float64)
        names = [layer.name for layer in data.space.layers]
        dearest = [int(i) for i in np.argsort(-costs.max(axis=0), kind="stable")[:LARGEST]]
        rest = [i for i in range(len(names)) if i not in dearest]
        ops = sorted({data.space.layers[i].op for i in rest})
        parts = [names[i] for i in dearest] + [f"other {op}" for op in ops]
        values = [costs[:, i] for i in dearest] + [
            costs[:, [i for i in rest if data.space.layers[i].op == op]].sum(axis=1) for op in ops
        ]
        left = totals - costs.sum(axis=1)
        if (np.abs(left) > 1e-6 * np.abs(totals)).any():
            parts.append(BETWEEN)
            values.append(np.maximum(left, 0.0))
        return PartsInfo(self.cost, tuple(rows["bar"]), tuple(parts), np.array(values))

    def plot(self, info: PartsInfo) -> go.Figure:
        """One stacked bar per policy."""
        item = cost_objective(info.cost)
        unit = f" ({item.unit})" if item.unit not in ("bytes", "BOPs") else ""
        figure = blank(self.height, barmode="stack", xaxis_title=f"{item.title}{unit}")
        figure.update_layout(legend_traceorder="normal")
        for index, (part, values) in enumerate(zip(info.parts, info.values, strict=True)):
            figure.add_bar(
                y=list(info.policies),
                x=values,
                orientation="h",
                name=numbers.plot_text(part),
                marker={"color": _colour(index, part)},
                hovertemplate=f"{numbers.plot_text(part)}: %{{x:.3s}}<extra></extra>",
            )
        figure.update_yaxes(autorange="reversed")
        if item.unit in ("bytes", "BOPs"):
            figure.update_xaxes(tickformat="~s", ticksuffix="B" if item.unit == "bytes" else "")
        return figure

    def alt(self, info: PartsInfo) -> str:
        """The dearest part of the last bar."""
        share = info.values[:, -1] / (info.values[:, -1].sum() or 1.0)
        top = int(np.argmax(share))
        return (
            f"In {info.policies[-1]}, {numbers.short(info.parts[top], 40)} takes "
            f"{100 * share[top]:.0f} % of the {cost_objective(info.cost).title}."
        )

    def table(self, info: PartsInfo) -> Table:
        """Parts by policy."""
        rows = tuple(
            (part, *(numbers.cost(info.cost, float(value)) for value in values))
            for part, values in zip(info.parts, info.values, strict=True)
        )
        return Table(("part", *info.policies), rows)


def variants(data: ReportData) -> list[PartsFigure]:
    """One figure per cost."""
    return [PartsFigure(cost) for cost in data.costs]


def shown_policies(data: ReportData, cost: str) -> pd.DataFrame:
    """Uniform int8 and lower, then the picks of this cost, with a name for each bar."""
    picks = {p.policy_id: p.role for p in data.front.picks if p.cost == cost}
    ids = [*data.front.baselines, *picks]
    ids = [i for i in dict.fromkeys(ids) if i != data.front.float_id]
    rows = data.unique.iloc[positions(data.unique, ids)]
    names = [
        str(tag) or f"{picks.get(policy_id, '')} {policy_id[:6]}".strip()
        for tag, policy_id in zip(rows["tag"], rows["policy_id"], strict=True)
    ]
    return rows.assign(bar=names)


def _colour(index: int, part: str) -> str:
    return theme.BASELINE if part == BETWEEN else theme.PARTS[index % len(theme.PARTS)]
