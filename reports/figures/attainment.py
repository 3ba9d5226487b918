"""Attainment over seeds: the cost at which a strategy reaches a loss in half of its runs.

The summary attainment surface of Fonseca and Fleming (1996): for each cost, the loss reached by
a given share of the seeds. A pooled union of seeds would flatter strategies that vary most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reports import numbers, theme
from reports.data import axis_label
from reports.figure import Table, blank, compact
from reports.fronts import cost_objective
from search.fronts import plane
from search.objectives import objective
from search.pareto import Floats

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reports.data import ReportData

ORDER = 60
LEAST_SEEDS = 3
GRID = 120


@dataclass(frozen=True)
class Surface:
    """Loss reached at each cost of a grid by 25, 50 and 75 % of the seeds; inf: not reached."""

    strategy: str
    seeds: int
    low: Floats
    median: Floats
    high: Floats


@dataclass(frozen=True)
class AttainmentInfo:
    """Surfaces of the strategies with enough seeds, on a common grid of costs."""

    cost: str
    quality: str
    x_label: str
    y_label: str
    grid: Floats
    surfaces: tuple[Surface, ...]
    strategies: tuple[str, ...]


@dataclass(frozen=True)
class AttainmentFigure:
    """See the module docstring."""

    cost: str
    name: str = "attainment"
    title: str = "Attainment over seeds"
    question: str = "What can be expected of a strategy in a single run?"
    height: int = 420

    def applicable(self, data: ReportData) -> str | None:
        """None, or why there is no surface."""
        if not _repeated(data):
            return f"Needs at least {LEAST_SEEDS} seeds of a strategy."
        if self.cost not in data.table or not data.table[self.cost].notna().any():
            return "Costs are not known yet."
        return None

    def prepare(self, data: ReportData) -> AttainmentInfo:
        """Best loss per cost, seed by seed, then quartiles over the seeds."""
        ok = data.ok[data.ok["searchable"]]
        costs = ok[self.cost].to_numpy(dtype=np.float64)
        grid = np.linspace(np.nanmin(costs), np.nanmax(costs), GRID)
        surfaces = []
        for strategy in _repeated(data):
            parts = [
                plane(rows[(rows["status"] == "ok") & rows["searchable"]], data.quality, self.cost)
                for name, _, rows in data.trials()
                if name == strategy
            ]
            reached = np.array([attained(points, grid) for points in parts])
            low, median, high = np.quantile(reached, [0.25, 0.5, 0.75], axis=0, method="higher")
            surfaces.append(Surface(strategy, len(parts), low, median, high))
        return AttainmentInfo(
            self.cost,
            data.quality,
            axis_label(self.cost, data.front.costs.get(self.cost)),
            f"{axis_label(data.quality)} on search-validation",
            grid,
            tuple(surfaces),
            data.strategies(),
        )

    def plot(self, info: AttainmentInfo) -> go.Figure:
        """Median surfaces with a band between the quartiles."""
        styles = theme.styles(info.strategies)
        figure = blank(self.height, xaxis_title=info.x_label, yaxis_title=info.y_label)
        for surface in info.surfaces:
            for trace in _band(surface, info, styles[surface.strategy]):
                figure.add_scatter(**trace)
        if not objective(info.quality).maximise:
            reached = np.concatenate([s.median[np.isfinite(s.median)] for s in info.surfaces])
            ticks = theme.log_ticks(float(reached.min()), float(reached.max()))
            figure.update_yaxes(type="log", tickvals=ticks)
        if info.cost.endswith("_bytes"):
            figure.update_xaxes(tickformat="~s", ticksuffix="B")
        return figure

    def alt(self, info: AttainmentInfo) -> str:
        """Loss reached at the middle of the costs."""
        middle = GRID // 2
        told = ", ".join(
            f"{s.strategy} {numbers.number(_shown(info, s.median)[middle])}" for s in info.surfaces
        )
        at = numbers.cost(info.cost, float(info.grid[middle]))
        return f"{info.quality} reached in half of the runs at {at}: {told}."

    def table(self, info: AttainmentInfo) -> Table:
        """Median loss at five costs."""
        spots = np.linspace(0, GRID - 1, 6).astype(int)[1:]
        title = cost_objective(info.cost).title
        columns = (
            "strategy",
            "seeds",
            *(f"{title} {numbers.cost(info.cost, float(info.grid[i]))}" for i in spots),
        )
        rows = tuple(
            (
                surface.strategy,
                str(surface.seeds),
                *(numbers.number(float(_shown(info, surface.median)[i])) for i in spots),
            )
            for surface in info.surfaces
        )
        return Table(columns, rows)


def variants(data: ReportData) -> list[AttainmentFigure]:
    """One figure per cost."""
    return [AttainmentFigure(cost) for cost in data.costs]


def attained(points: Floats, grid: Floats) -> Floats:
    """Least loss of ``points[n, 2]`` (loss, cost) at or below each cost; inf where none is."""
    order = np.argsort(points[:, 1], kind="stable")
    best = np.r_[np.inf, np.minimum.accumulate(points[order, 0])]
    values: Floats = best[np.searchsorted(points[order, 1], grid, side="right")]
    return values


def _repeated(data: ReportData) -> list[str]:
    names = [strategy for strategy, _, _ in data.trials()]
    return [name for name in data.strategies() if names.count(name) >= LEAST_SEEDS]


def _shown(info: AttainmentInfo, values: Floats) -> Floats:
    """Back from minimised values to what an axis shows; unreached costs as NaN."""
    sign = -1.0 if objective(info.quality).maximise else 1.0
    shown: Floats = np.where(np.isfinite(values), sign * values, np.nan)
    return shown


def _band(surface: Surface, info: AttainmentInfo, style: theme.Style) -> list[dict[str, object]]:
    reached = np.isfinite(surface.high)
    name = f"{surface.strategy} (n={surface.seeds})"
    edge = {
        "x": compact(info.grid[reached]),
        "mode": "lines",
        "line": {"width": 0, "shape": "hv", "color": style.colour},
        "legendgroup": name,
        "showlegend": False,
        "hoverinfo": "skip",
    }
    median = np.isfinite(surface.median)
    return [
        {**edge, "y": compact(_shown(info, surface.low)[reached])},
        {
            **edge,
            "y": compact(_shown(info, surface.high)[reached]),
            "fill": "tonexty",
            "fillcolor": theme.faint(style.colour),
        },
        {
            "x": compact(info.grid[median]),
            "y": compact(_shown(info, surface.median)[median]),
            "name": name,
            "mode": "lines",
            "line": {"width": 2.25, "shape": "hv", "color": style.colour, "dash": style.dash},
            "legendgroup": name,
            "hovertemplate": f"{surface.strategy} %{{y:.3g}}<extra></extra>",
        },
    ]
