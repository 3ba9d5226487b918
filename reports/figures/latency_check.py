"""Predicted against measured latency of whole policies: how far the table can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from reports import numbers, theme
from reports.figure import Table, blank
from search.latency_figures import UNIFORM, Accuracy, Figures
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
        fitted: True for uniform policies, on which the line was fitted; errors leave them out.
        predicted, measured, low, high: ``float[n]``; low and high bound the measurement.
        node_sum: sum over the nodes of the optimised graph, NaN where unknown.
        p50, p99: wall time of single calls, NaN where unknown.
        mape: mean absolute relative error of the prediction.
        tau: Kendall's tau of the two rankings.
        slope, overhead_ms: least-squares fit of measured on predicted.
        figures: errors, noise floor and rank intervals of a whole check, else None.
    """

    names: tuple[str, ...]
    fitted: npt.NDArray[np.bool_]
    predicted: Floats
    measured: Floats
    low: Floats
    high: Floats
    node_sum: Floats
    p50: Floats
    p99: Floats
    mape: float
    tau: float
    slope: float
    overhead_ms: float
    figures: Figures | None


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
        """Error, rank correlation and the fitted overhead, over policies drawn by seed."""
        rows = data.latency_check
        assert rows is not None

        def column(name: str, other: str = "") -> Floats:
            name = name if name in rows else other
            missing = np.full(len(rows), np.nan)
            return rows[name].to_numpy(dtype=np.float64) if name in rows else missing

        predicted = column("predicted_ms")
        measured = (column("measured_ms") + column("measured_again_ms", "measured_ms")) / 2
        fitted = (rows["drawn"] == UNIFORM).to_numpy() if "drawn" in rows else predicted < 0
        judged = ~fitted if (~fitted).any() else fitted
        slope, overhead = fit(predicted[judged], measured[judged])
        tags = rows["tag"].fillna("") if "tag" in rows else [""] * len(rows)
        return CheckInfo(
            tuple(t or p for t, p in zip(tags, rows["policy_id"], strict=True)),
            fitted,
            predicted,
            measured,
            column("low_ms"),
            column("high_ms"),
            column("node_sum_ms"),
            column("wall_p50_ms"),
            column("wall_p99_ms"),
            float(np.mean(np.abs(predicted - measured)[judged] / measured[judged])),
            kendall_tau(predicted[judged], measured[judged]),
            slope,
            overhead,
            data.latency_figures,
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
        for mixed in (True, False):
            _add_measured(figure, info, info.fitted != mixed, mixed=mixed)
        figure.update_xaxes(type="log", nticks=6, minor_showgrid=False)
        figure.update_yaxes(type="log", nticks=6, minor_showgrid=False)
        return figure

    def alt(self, info: CheckInfo) -> str:
        """Error, ranks, noise and overhead in words."""
        count = int((~info.fitted).sum()) or len(info.names)
        sign = "−" if info.overhead_ms < 0 else "+"
        overhead = numbers.number(abs(info.overhead_ms))
        line = f"{info.slope:.2f} x predicted {sign} {overhead} ms"
        if info.figures is None:
            return (
                f"{count} policies measured end to end: mean absolute error "
                f"{100 * info.mape:.1f} %, Kendall tau {info.tau:.2f}, measured = {line}."
            )
        found = info.figures
        return (
            f"{count} mixed policies drawn by seed and measured end to end: mean absolute error "
            f"{100 * found.additive.mape:.1f} % (two sessions of one policy differ by "
            f"{100 * found.noise:.1f} %), bias {100 * found.additive.bias:+.1f} %, Kendall tau "
            f"{_tau(found.additive)} (two sessions: {found.self_tau:.2f}); nodes of each graph "
            f"{100 * found.node_sum.mape:.1f} % and {_tau(found.node_sum)}; ranked by bit "
            f"operations {found.bops_tau:.2f}, by size {found.size_tau:.2f}. Measured = {line}."
        )

    def table(self, info: CheckInfo) -> Table:
        """Every checked policy."""
        times = {
            "predicted ms": info.predicted,
            "node sum ms": info.node_sum,
            "measured ms": info.measured,
            "low": info.low,
            "high": info.high,
            "wall p50 ms": info.p50,
            "wall p99 ms": info.p99,
        }
        shown = {name: values for name, values in times.items() if np.isfinite(values).any()}
        columns = ("policy", "used for", *shown, "error")
        rows = tuple(
            (
                name,
                "fit" if info.fitted[i] else "check",
                *(numbers.number(float(values[i])) for values in shown.values()),
                numbers.change(float(info.predicted[i]), float(info.measured[i])),
            )
            for i, name in enumerate(info.names)
        )
        return Table(columns, rows, self.alt(info))


def _tau(found: Accuracy) -> str:
    return f"{found.tau:.2f} [{found.tau_low:.2f}, {found.tau_high:.2f}]"


def _add_measured(
    figure: go.Figure, info: CheckInfo, which: npt.NDArray[np.bool_], *, mixed: bool
) -> None:
    """Measured policies of one kind with the range of their sessions."""
    if not which.any():
        return
    figure.add_scatter(
        x=info.predicted[which],
        y=info.measured[which],
        name="measured" if mixed else "measured, used for the fit",
        mode="markers",
        error_y={
            "array": (info.high - info.measured)[which],
            "arrayminus": (info.measured - info.low)[which],
            "thickness": 1,
            "width": 0,
        },
        marker={
            "size": 9,
            "symbol": "circle" if mixed else "diamond-open",
            "color": theme.SERIES[0] if mixed else theme.BASELINE,
        },
        # Not "customdata": that is a candidate's row to the page.
        text=[name for name, here in zip(info.names, which, strict=True) if here],
        hovertemplate="%{text}: predicted %{x:.3g} ms, measured %{y:.3g} ms<extra></extra>",
    )


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
