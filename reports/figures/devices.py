"""Several devices: what is lost when one device's front is used on another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reports import numbers, theme
from reports.figure import Table, blank
from reports.fronts import cost_objective
from search.pareto import Floats

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reports.data import ReportData

ORDER = 75
WORST = 0.5
"""Share of the hypervolume at which colours end."""


@dataclass(frozen=True)
class DevicesInfo:
    """Regret between devices.

    Attributes:
        names: devices, the first is the one policies were measured on.
        lost: ``float[found on, used on]``, share of the hypervolume of the second device's own
            front that is lost; 0 on the diagonal, NaN where unknown.
    """

    names: tuple[str, ...]
    lost: Floats


@dataclass(frozen=True)
class DevicesFigure:
    """See the module docstring."""

    name: str = "devices"
    cost: str = ""
    title: str = "One front, several devices"
    question: str = "Can policies found for one device be used on another?"
    height: int = 320

    def applicable(self, data: ReportData) -> str | None:
        """None, or why devices cannot be compared."""
        return None if data.front.regret else "Fronts of one device only."

    def prepare(self, data: ReportData) -> DevicesInfo:
        """The stored shares as a matrix."""
        costs = tuple(data.front.regret)
        lost = np.array(
            [
                [0.0 if a == b else data.front.regret[a].get(b, np.nan) for b in costs]
                for a in costs
            ]
        )
        return DevicesInfo(tuple(device_of(cost, data) for cost in costs), lost)

    def plot(self, info: DevicesInfo) -> go.Figure:
        """A matrix with its numbers."""
        figure = blank(140 + 48 * len(info.names), xaxis_title="used on", yaxis_title="found for")
        figure.add_heatmap(
            z=info.lost,
            x=list(info.names),
            y=list(info.names),
            text=[[percent(value) for value in row] for row in info.lost.tolist()],
            texttemplate="%{text}",
            colorscale=[[0, "rgba(0,0,0,0)"], [1, theme.faint(theme.SERIES[1])]],
            zmin=0,
            zmax=WORST,
            showscale=False,
            xgap=2,
            ygap=2,
            hoverinfo="none",
        )
        figure.update_xaxes(showgrid=False)
        figure.update_yaxes(autorange="reversed", showgrid=False)
        return figure

    def alt(self, info: DevicesInfo) -> str:
        """The largest loss in words."""
        worst = np.unravel_index(int(np.nanargmax(info.lost)), info.lost.shape)
        found, used = (info.names[int(i)] for i in worst)
        return (
            f"Policies found for {found} lose {percent(float(info.lost[worst]))} of the "
            f"hypervolume that {used}'s own front has, when used there: the largest loss among "
            f"{len(info.names)} devices."
        )

    def table(self, info: DevicesInfo) -> Table:
        """A row per pair."""
        rows = tuple(
            (a, b, percent(float(info.lost[i, j])))
            for i, a in enumerate(info.names)
            for j, b in enumerate(info.names)
            if i != j
        )
        note = "Share of the hypervolume of a device's own front that is lost. " + self.alt(info)
        return Table(("found for", "used on", "hypervolume lost"), rows, note)


def variants(data: ReportData) -> list[DevicesFigure]:
    """One figure where there are several devices."""
    return [DevicesFigure()] if data.front.regret else []


def device_of(cost: str, data: ReportData) -> str:
    """Name of a device for people; the main one has no suffix and is called by its table."""
    _, _, device = cost.partition("@")
    if device:
        return device
    name = str(data.front.costs[cost].data.get("device") or cost_objective(cost).title)
    return numbers.short(name, 40)


def percent(share: float) -> str:
    """A share for a cell."""
    return "–" if np.isnan(share) else f"{100 * share:.1f} %"
