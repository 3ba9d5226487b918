"""Predicted against measured latency by op type, a small plot each: where a table goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from reports import numbers, theme
from reports.figure import Table, blank
from search.latency_figures import RANDOM, OpFigures, op_figures
from search.pareto import Floats

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reports.data import ReportData

ORDER = 71
BAND = 0.10
FACETS = 6
"""Op types drawn, the dearest ones; the table of the section holds all."""


@dataclass(frozen=True)
class OpInfo:
    """Nodes of one op type, a point per policy.

    Attributes:
        found: error and share of the time.
        policies: policy ids.
        predicted: sum of the nodes' entries in the table, ms ``[n]``.
        measured: their time inside the network, ms ``[n]``.
        mixed: False for uniform policies, ``[n]``.
    """

    found: OpFigures
    policies: tuple[str, ...]
    predicted: Floats
    measured: Floats
    mixed: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LatencyOpFigure:
    """The op type of a rank, see the module docstring."""

    rank: int
    cost: str = ""
    title: str = "Latency by kind of operation"
    question: str = "Which nodes take another time inside the network than alone in the table?"
    height: int = 250

    @property
    def name(self) -> str:
        """One element per rank; names of ops are not ours to trust."""
        return f"ops-{self.rank}"

    def applicable(self, data: ReportData) -> str | None:
        """None, or why there is nothing to compare."""
        if data.latency_ops is None or not len(data.latency_ops):
            return "The networks of this run were not profiled op by op."
        return None

    def prepare(self, data: ReportData) -> OpInfo:
        """The points of the op type of this rank."""
        assert data.latency_ops is not None
        found = op_figures(data.latency_ops)[self.rank]
        rows = data.latency_ops[data.latency_ops["op"] == found.op]
        rows = rows[rows["measured_ms"] > 0]
        return OpInfo(
            found,
            tuple(rows["policy_id"]),
            rows["predicted_ms"].to_numpy(dtype=np.float64),
            rows["measured_ms"].to_numpy(dtype=np.float64),
            (rows["drawn"] == RANDOM).to_numpy(),
        )

    def plot(self, info: OpInfo) -> go.Figure:
        """Points with the identity and a band of ten percent."""
        name = numbers.plot_text(info.found.op)
        figure = blank(
            self.height,
            xaxis_title=f"{name}, alone (ms)",
            yaxis_title="in the network (ms)",
            showlegend=False,
        )
        top = 1.1 * float(max(info.predicted.max(), info.measured.max()))
        ends = np.array([0.0, top])
        quiet = {"mode": "lines", "hoverinfo": "skip"}
        edge = {**quiet, "line": {"width": 0, "color": theme.BASELINE}}
        figure.add_scatter(x=ends, y=ends * (1 - BAND), **edge)
        band = theme.faint(theme.BASELINE)
        figure.add_scatter(x=ends, y=ends * (1 + BAND), **edge, fill="tonexty", fillcolor=band)
        dotted = {"width": 1, "dash": "dot", "color": theme.BASELINE}
        figure.add_scatter(x=ends, y=ends, **quiet, line=dotted)
        for mixed, symbol, colour in (
            (False, "diamond-open", theme.BASELINE),
            (True, "circle", theme.SERIES[0]),
        ):
            which = info.mixed == mixed
            word = "mixed" if mixed else "uniform"
            figure.add_scatter(
                x=info.predicted[which],
                y=info.measured[which],
                mode="markers",
                marker={"size": 7, "symbol": symbol, "color": colour},
                # Not "customdata": that is a candidate's row to the page.
                text=[name for name, here in zip(info.policies, which, strict=True) if here],
                hovertemplate=f"%{{text}}, {word}: alone %{{x:.3g}} ms, in the network "
                "%{y:.3g} ms<extra></extra>",
            )
        figure.update_xaxes(range=[0, top], nticks=5)
        figure.update_yaxes(range=[0, top], nticks=5)
        return figure

    def alt(self, info: OpInfo) -> str:
        """Share and error in words."""
        found = info.found
        return (
            f"{found.op}: {numbers.percent(found.share)} of the time of all nodes; the table is "
            f"off by {numbers.percent(found.error)}, with its sign {100 * found.bias:+.1f} %, "
            f"over {found.policies} policies."
        )

    def table(self, info: OpInfo) -> Table:
        """Every point."""
        columns = ("policy", "drawn", "alone ms", "in the network ms", "error")
        rows = tuple(
            (
                policy,
                "mixed" if info.mixed[i] else "uniform",
                numbers.number(float(info.predicted[i])),
                numbers.number(float(info.measured[i])),
                numbers.change(float(info.predicted[i]), float(info.measured[i])),
            )
            for i, policy in enumerate(info.policies)
        )
        return Table(columns, rows, self.alt(info))


def variants(data: ReportData) -> list[LatencyOpFigure]:
    """A figure for each of the dearest op types, for runs that were checked op by op."""
    if data.latency_ops is None or not len(data.latency_ops):
        return []
    return [LatencyOpFigure(rank) for rank in range(len(op_figures(data.latency_ops)[:FACETS]))]
