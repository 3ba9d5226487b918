"""Predicted against measured latency of whole policies: how far the table can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reports import numbers, theme
from reports.figure import Table, blank
from search.pareto import Floats
from search.stats import kendall_tau

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reports.data import ReportData

ORDER = 70
BAND = 0.10


@dataclass(frozen=True)
class CheckInfo:
    """Whole policies, predicted and measured end to end, milliseconds.

    Attributes:
        names: tag or policy id.
        predicted, measured, low, high: ``float[n]``; low and high bound the measurement.
        node_sum: sum over the nodes of the optimised graph, NaN where unknown.
        mape: mean absolute relative error of the prediction.
        tau: Kendall's tau of the two rankings.
        slope, overhead_ms: least-squares fit of measured on predicted.
    """

    names: tuple[str, ...]
    predicted: Floats
    measured: Floats
    low: Floats
    high: Floats
    node_sum: Floats
    mape: float
    tau: float
    slope: float
    overhead_ms: float


@dataclass(frozen=True)
class LatencyCheckFigure:
    """See the module docstring."""

    name: str = "latency"
    cost: str = ""
    title: str = "Predicted against measured latency"
    question: str = "Does the table rank whole models as the device does?"
    height: int = 460

    def applicable(self, data: ReportData) -> str | None:
        """None, or why there is nothing to compare."""
        if data.latency_check is None or not len(data.latency_check):
            return (
                "Predicted latency was not checked end to end in this run; "
                "bitfront-measure validate does it."
            )
        return None

    def prepare(self, data: ReportData) -> CheckInfo:
        """Error, rank correlation and the fitted overhead."""
        rows = data.latency_check
        assert rows is not None

        def column(name: str) -> Floats:
            missing = np.full(len(rows), np.nan)
            return rows[name].to_numpy(dtype=np.float64) if name in rows else missing

        predicted, measured = column("predicted_ms"), column("measured_ms")
        slope, overhead = fit(predicted, measured)
        tags = rows["tag"].fillna("") if "tag" in rows else [""] * len(rows)
        return CheckInfo(
            tuple(t or p for t, p in zip(tags, rows["policy_id"], strict=True)),
            predicted,
            measured,
            column("low_ms"),
            column("high_ms"),
            column("node_sum_ms"),
            float(np.mean(np.abs(predicted - measured) / measured)),
            kendall_tau(predicted, measured),
            slope,
            overhead,
        )

    def plot(self, info: CheckInfo) -> go.Figure:
        """Points on logarithmic axes with the identity and a band of ten percent."""
        ends = _ends(info)
        figure = blank(
            self.height,
            xaxis_title="predicted latency (ms)",
            yaxis_title="measured latency (ms), end to end",
        )
        quiet = {"mode": "lines", "hoverinfo": "skip", "showlegend": False}
        edge = {**quiet, "line": {"width": 0, "color": theme.BASELINE}}
        figure.add_scatter(x=ends, y=ends * (1 - BAND), **edge)
        figure.add_scatter(
            x=ends,
            y=ends * (1 + BAND),
            **{**edge, "showlegend": True},
            fill="tonexty",
            fillcolor=theme.faint(theme.BASELINE),
            name="within 10 %",
        )
        figure.add_scatter(
            x=ends, y=ends, **quiet, line={"width": 1, "dash": "dot", "color": theme.BASELINE}
        )
        if np.isfinite(info.node_sum).any():
            figure.add_scatter(
                x=info.predicted,
                y=info.node_sum,
                name="sum of graph nodes",
                mode="markers",
                marker={"symbol": "x-thin-open", "size": 8, "color": theme.BASELINE},
                text=list(info.names),
                hovertemplate="%{text}: nodes sum to %{y:.3g} ms<extra></extra>",
            )
        figure.add_scatter(
            x=info.predicted,
            y=info.measured,
            name="measured",
            mode="markers",
            error_y={
                "array": info.high - info.measured,
                "arrayminus": info.measured - info.low,
                "thickness": 1,
                "width": 0,
            },
            marker={"size": 9, "color": theme.SERIES[0]},
            customdata=list(info.names),
            hovertemplate="%{customdata}: predicted %{x:.3g} ms, measured %{y:.3g} ms"
            "<extra></extra>",
        )
        figure.update_xaxes(type="log", nticks=6, minor_showgrid=False)
        figure.update_yaxes(type="log", nticks=6, minor_showgrid=False)
        return figure

    def alt(self, info: CheckInfo) -> str:
        """Error, ranks and overhead in words."""
        return (
            f"{len(info.names)} policies measured end to end: mean absolute error "
            f"{100 * info.mape:.1f} %, Kendall tau {info.tau:.2f}, measured = "
            f"{info.slope:.2f} x predicted + {numbers.number(info.overhead_ms)} ms."
        )

    def table(self, info: CheckInfo) -> Table:
        """Every checked policy."""
        columns = ("policy", "predicted ms", "measured ms", "low", "high", "error")
        rows = tuple(
            (
                name,
                numbers.number(p),
                numbers.number(m),
                numbers.number(low),
                numbers.number(high),
                numbers.change(p, m),
            )
            for name, p, m, low, high in zip(
                info.names,
                info.predicted.tolist(),
                info.measured.tolist(),
                info.low.tolist(),
                info.high.tolist(),
                strict=True,
            )
        )
        return Table(columns, rows, self.alt(info))


def variants(data: ReportData) -> list[LatencyCheckFigure]:
    """One figure, when there is a latency at all."""
    has_latency = any(cost.startswith("latency_ms") for cost in data.costs)
    return [LatencyCheckFigure()] if has_latency or data.latency_check is not None else []


def fit(predicted: Floats, measured: Floats) -> tuple[float, float]:
    """Slope and intercept of measured on predicted; (1, mean gap) for fewer than two values."""
    if len(predicted) < 2 or np.ptp(predicted) == 0:
        return 1.0, float(np.mean(measured - predicted))
    slope, intercept = np.polyfit(predicted, measured, 1)
    return float(slope), float(intercept)


def _ends(info: CheckInfo) -> Floats:
    values = np.concatenate([info.predicted, info.measured])
    return np.array([values.min() * 0.85, values.max() * 1.18])
