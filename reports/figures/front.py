"""The front: quality against one cost, with every candidate, the baselines and the picks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reports import numbers, theme
from reports.data import axis_label
from reports.figure import Table, blank
from reports.fronts import cost_objective, positions
from search.objectives import objective
from search.pareto import Floats
from search.stats import Z95

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from reports.data import ReportData

ORDER = 10
SHOWN = 3000
"""Dominated candidates above this number are thinned by a grid; all others always stay."""

GRID = 64
NEAR = 1.34
INT8 = "w8a8"
PICK_NAMES = {"accurate": "most accurate", "knee": "knee", "smallest": "cheapest within tolerance"}


@dataclass(frozen=True)
class Series:
    """Points of one kind. ``x`` and ``y`` are ``float[n]``, ``rows`` index the unique table."""

    name: str
    x: Floats
    y: Floats
    rows: tuple[int, ...]
    labels: tuple[str, ...] = ()
    half: Floats | None = None


@dataclass(frozen=True)
class FrontInfo:
    """What the front shows.

    Attributes:
        cost, quality: names of the axes.
        x_label, y_label: axis texts.
        log_y: True when losses span more than a factor of four.
        candidates: dominated candidates by strategy.
        front: nondominated ones by rising cost, with 95 % half-intervals where known.
        test: the same policies on the test split.
        baselines: tagged policies; the uniform ones first, by rising cost.
        picks: named points of the front.
        limits: budgets on this cost.
        total: candidates in the run, unique and successful.
        shown: of those, drawn.
    """

    cost: str
    quality: str
    x_label: str
    y_label: str
    log_y: bool
    candidates: tuple[Series, ...]
    front: Series
    test: Series | None
    baselines: Series
    picks: Series
    limits: tuple[float, ...]
    total: int
    shown: int


@dataclass(frozen=True)
class FrontFigure:
    """See the module docstring."""

    cost: str
    name: str = "front"
    title: str = "The front"
    question: str = "What does each step down in cost take away in quality?"
    height: int = 560

    def applicable(self, data: ReportData) -> str | None:
        """None, or why there is no front."""
        if not len(data.ok):
            return "All candidates failed, so there is no front."
        if not data.front.fronts.get(self.cost):
            return f"No successful candidate of the space has a {self.cost}."
        return None

    def prepare(self, data: ReportData) -> FrontInfo:
        """Splits the candidates into front, dominated and baselines."""
        table, quality = data.unique, data.quality
        usable = (table["status"] == "ok") & table[self.cost].notna()
        front_rows = positions(table, data.front.fronts[self.cost])
        base_rows = positions(table, data.front.baselines)
        special = set(front_rows) | set(base_rows)
        others = [row for row in np.flatnonzero(usable).tolist() if row not in special]
        kept = thin(table.iloc[others][[self.cost, quality]].to_numpy(dtype=np.float64), SHOWN)
        others = [others[i] for i in kept]
        losses = table[quality][usable].to_numpy(dtype=np.float64)
        return FrontInfo(
            cost=self.cost,
            quality=quality,
            x_label=axis_label(self.cost, data.front.costs.get(self.cost)),
            y_label=f"{axis_label(quality)} on search-validation",
            log_y=quality != "accuracy" and losses.min() > 0 and losses.max() > 4 * losses.min(),
            candidates=self._by_strategy(data, table, others),
            front=self._series("front", table, front_rows, quality),
            test=self._test(data, table, front_rows),
            baselines=self._baselines(data, table, base_rows),
            picks=self._picks(data, table),
            limits=limits(data, self.cost),
            total=int(usable.sum()),
            shown=len(others) + len(special),
        )

    def _series(self, name: str, table: pd.DataFrame, rows: list[int], quality: str) -> Series:
        part = table.iloc[rows]
        half = half_interval(part, quality)
        return Series(
            name,
            part[self.cost].to_numpy(dtype=np.float64),
            part[quality].to_numpy(dtype=np.float64),
            tuple(rows),
            tuple(part["policy_id"]),
            half,
        )

    def _by_strategy(
        self, data: ReportData, table: pd.DataFrame, rows: list[int]
    ) -> tuple[Series, ...]:
        names = table["strategy"].tolist()
        parts = {name: [row for row in rows if names[row] == name] for name in data.strategies()}
        return tuple(
            self._series(name, table, part, data.quality) for name, part in parts.items() if part
        )

    def _test(self, data: ReportData, table: pd.DataFrame, rows: list[int]) -> Series | None:
        ids = table["policy_id"].tolist()
        entries = data.front.policies
        read = [row for row in rows if "test" in entries.get(ids[row], {})]
        if not read:
            return None
        tests = [entries[ids[row]]["test"] for row in read]
        values = np.array([item[data.quality] for item in tests], dtype=np.float64)
        errors = np.array([item["standard_error"] for item in tests], dtype=np.float64)
        cost = table[self.cost].iloc[read].to_numpy(dtype=np.float64)
        half = Z95 * errors if data.quality == "ce" else None
        return Series("test", cost, values, tuple(read), half=half)

    def _baselines(self, data: ReportData, table: pd.DataFrame, rows: list[int]) -> Series:
        rows = sorted(rows, key=lambda row: float(table[self.cost].iloc[row]))
        series = self._series("baselines", table, rows, data.quality)
        tags = [str(table["tag"].iloc[row]) for row in rows]
        return Series(series.name, series.x, series.y, series.rows, tuple(tags), series.half)

    def _picks(self, data: ReportData, table: pd.DataFrame) -> Series:
        chosen = [pick for pick in data.front.picks if pick.cost == self.cost]
        rows = positions(table, [pick.policy_id for pick in chosen])
        part = table.iloc[rows]
        return Series(
            "picks",
            part[self.cost].to_numpy(dtype=np.float64),
            part[data.quality].to_numpy(dtype=np.float64),
            tuple(rows),
            tuple(PICK_NAMES.get(pick.role, pick.role) for pick in chosen),
        )

    def plot(self, info: FrontInfo) -> go.Figure:
        """Dominated candidates faint, the front as a staircase, baselines as diamonds."""
        figure = blank(self.height, xaxis_title=info.x_label, yaxis_title=info.y_label)
        styles = theme.styles([series.name for series in info.candidates])
        for series in info.candidates:
            figure.add_scatter(**_points(series, styles[series.name]))
        figure.add_scatter(**_staircase(info.front))
        if info.test is not None:
            figure.add_scatter(**_test_points(info.test))
        figure.add_scatter(**_baseline_points(info.baselines))
        figure.add_scatter(**_selection(info.picks))
        for limit in info.limits:
            figure.add_vline(limit, line={"dash": "dash", "width": 1}, annotation_text="budget")
        if info.log_y:
            ends = np.concatenate([info.front.y, info.baselines.y])
            figure.update_yaxes(type="log", tickvals=theme.log_ticks(ends.min(), ends.max()))
        figure.update_yaxes(range=y_range(info))
        figure.update_xaxes(range=x_range(info))
        return figure

    def alt(self, info: FrontInfo) -> str:
        """Ends of the front in words."""
        front = info.front
        title = cost_objective(info.cost).title
        return (
            f"{len(front.x)} policies form the front of {info.quality} against {title}: from "
            f"{numbers.cost(info.cost, front.x[0])} at {info.quality} "
            f"{numbers.number(float(front.y[0]))} to {numbers.cost(info.cost, front.x[-1])} at "
            f"{info.quality} {numbers.number(float(front.y[-1]))}; {info.total} candidates in all."
        )

    def table(self, info: FrontInfo) -> Table:
        """Front points and baselines."""
        kinds = [("front", info.front), ("baseline", info.baselines)]
        rows = tuple(
            (kind, name, numbers.cost(info.cost, x), numbers.number(float(y)))
            for kind, series in kinds
            for name, x, y in zip(series.labels, series.x, series.y, strict=True)
        )
        note = join_notes(info)
        columns = ("kind", "policy", cost_objective(info.cost).title, info.quality)
        return Table(columns, rows, note)


def variants(data: ReportData) -> list[FrontFigure]:
    """One front per cost."""
    return [FrontFigure(cost) for cost in data.costs]


def thin(points: Floats, limit: int) -> list[int]:
    """Rows of ``points[n, 2]`` to draw: all up to ``limit``, else spread evenly over a grid.

    Within a grid cell the first rows stay; every occupied cell keeps at least one.
    """
    if len(points) <= limit:
        return list(range(len(points)))
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    span = np.where(high > low, high - low, 1.0)
    cells = np.minimum(((points - low) / span * GRID).astype(np.int64), GRID - 1)
    order = np.lexsort((np.arange(len(points)), cells[:, 1], cells[:, 0]))
    flat = (cells[:, 0] * GRID + cells[:, 1])[order]
    starts = np.r_[0, np.flatnonzero(np.diff(flat)) + 1]
    rank = np.arange(len(flat)) - np.repeat(starts, np.diff(np.r_[starts, len(flat)]))
    chosen = order[np.lexsort((order, rank))][:limit]
    return sorted(int(i) for i in chosen)


def join_notes(info: FrontInfo) -> str:
    """What the first view leaves out."""
    outside = [
        f"{name} at {numbers.cost(info.cost, x)}"
        for name, x in zip(info.baselines.labels, info.baselines.x, strict=True)
        if x > x_range(info)[1]
    ]
    notes = [f"Outside the first view: {', '.join(outside)}."] if outside else []
    if info.shown < info.total:
        notes.append(f"Showing {info.shown} of {info.total} points; the front is complete.")
    return " ".join(notes)


def half_interval(rows: pd.DataFrame, quality: str) -> Floats | None:
    """95 % half-intervals ``float[n]`` of a quality; None when no error is recorded."""
    if quality == "ce":
        half: Floats = Z95 * rows["standard_error"].to_numpy(dtype=np.float64)
        return half
    if quality == "accuracy":
        share = rows["accuracy"].to_numpy(dtype=np.float64)
        wald: Floats = Z95 * np.sqrt(share * (1 - share) / np.maximum(rows["n"], 1))
        return wald
    return None


def limits(data: ReportData, cost: str) -> tuple[float, ...]:
    """Budgets on ``cost``, read from texts like ``size_bytes <= 300000``."""
    found = []
    for text in data.manifest.get("constraints", ()):
        name, _, value = str(text).partition("<=")
        if name.strip() == cost:
            found.append(float(value))
    return tuple(found)


def y_range(info: FrontInfo) -> list[float]:
    """First view: front, test values and uniform baselines; log10 on a log axis."""
    parts = [info.front.y, info.baselines.y, *([info.test.y] if info.test else [])]
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    if objective(info.quality).maximise:
        return [max(0.0, low - 0.03), min(1.0, high + 0.02)]
    if info.log_y:
        low, high = np.log10(low), np.log10(high)
    pad = 0.05 * (high - low) or 0.1
    return [low - pad, high + pad]


def x_range(info: FrontInfo) -> list[float]:
    """First view: the front, uniform int8, and baselines up to a third beyond the front's end."""
    is_int8 = np.array([name == INT8 for name in info.baselines.labels], dtype=np.bool_)
    near = info.baselines.x[is_int8 | (info.baselines.x <= NEAR * info.front.x.max())]
    values = np.concatenate([info.front.x, near])
    low, high = float(values.min()), float(values.max())
    pad = 0.05 * (high - low) or 0.05 * high or 1.0
    return [low - pad, high + pad]


def _points(series: Series, style: theme.Style) -> dict[str, object]:
    return {
        "name": series.name,
        "x": series.x,
        "y": series.y,
        "customdata": list(series.rows),
        "mode": "markers",
        "hoverinfo": "none",
        "marker": {
            "color": style.colour,
            "symbol": style.mark,
            "size": 6,
            "opacity": 0.55,
            "line": {"width": 0},
        },
        "meta": "candidates",
    }


def _staircase(series: Series) -> dict[str, object]:
    return {
        "name": "front",
        "x": series.x,
        "y": series.y,
        "customdata": list(series.rows),
        "mode": "lines+markers",
        "line": {"shape": "hv", "width": 1.75, "color": theme.SERIES[0]},
        "marker": {"size": 8, "color": theme.SERIES[0], "line": {"width": 0.75}},
        "hoverinfo": "none",
        "meta": "front",
    }


def _test_points(series: Series) -> dict[str, object]:
    trace: dict[str, object] = {
        "name": "front on the test split",
        "x": series.x,
        "y": series.y,
        "customdata": list(series.rows),
        "mode": "markers",
        "marker": {
            "symbol": "line-ew-open",
            "size": 9,
            "color": theme.BASELINE,
            "line": {"width": 1.75, "color": theme.BASELINE},
        },
        "hoverinfo": "none",
        "meta": "test",
    }
    if series.half is not None:
        trace["error_y"] = {
            "array": series.half,
            "thickness": 0.75,
            "width": 0,
            "color": theme.BASELINE,
        }
    return trace


def _baseline_points(series: Series) -> dict[str, object]:
    return {
        "name": "uniform baselines",
        "x": series.x,
        "y": series.y,
        "text": list(series.labels),
        "customdata": list(series.rows),
        "mode": "markers+text",
        "textposition": "top center",
        "marker": {"symbol": "diamond", "size": 10, "color": theme.BASELINE},
        "hoverinfo": "none",
        "cliponaxis": True,
        "meta": "baselines",
    }


def _selection(series: Series) -> dict[str, object]:
    return {
        "name": "picked points",
        "x": series.x,
        "y": series.y,
        "customdata": list(series.rows),
        "mode": "markers",
        "marker": {
            "symbol": "circle-open",
            "size": 17,
            "color": theme.ACCENT,
            "line": {"width": 2, "color": theme.ACCENT},
        },
        "hoverinfo": "none",
        "meta": "picks",
    }
