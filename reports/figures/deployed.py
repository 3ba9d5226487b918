"""Simulated against deployed: where a policy was expected and where its file really is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports import numbers, theme
from reports.exports import timed
from reports.figure import Table, blank

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reports.data import ReportData

ORDER = 72


@dataclass(frozen=True)
class Placed:
    """One exported file.

    Attributes:
        policy_id: its policy.
        predicted, measured: latency, milliseconds.
        low, high: range of the two sessions.
        simulated, deployed: accuracy on the test split, shares.
        half: half of the interval of ``deployed``.
    """

    policy_id: str
    predicted: float
    measured: float
    low: float
    high: float
    simulated: float
    deployed: float
    half: float


@dataclass(frozen=True)
class DeployedInfo:
    """Exported files, and ``(tag, milliseconds, accuracy)`` of baselines timed beside them."""

    files: tuple[Placed, ...]
    beside: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class DeployedFigure:
    """See the module docstring."""

    cost: str = ""
    name: str = "deployed"
    title: str = "Simulated against deployed"
    question: str = "Does an exported file answer as simulated, and is it as fast as predicted?"
    height: int = 380

    def applicable(self, data: ReportData) -> str | None:
        """None, or why there is nothing to draw."""
        return None if _placed(data) else "No exported file was timed."

    def prepare(self, data: ReportData) -> DeployedInfo:
        """Every timed export, and the baselines timed beside them."""
        return DeployedInfo(_placed(data), _beside(data))

    def plot(self, both: DeployedInfo) -> go.Figure:
        """Hollow where predicted, filled where measured."""
        info = both.files
        figure = blank(
            self.height,
            xaxis_title="latency (ms)",
            yaxis_title="accuracy on the test split (%)",
        )
        for item in info:
            figure.add_scatter(
                x=[item.predicted, item.measured],
                y=[100 * item.simulated, 100 * item.deployed],
                mode="lines",
                line={"width": 1, "color": theme.BASELINE},
                hoverinfo="skip",
                showlegend=False,
            )
        names = [item.policy_id for item in info]
        figure.add_scatter(
            x=[item.predicted for item in info],
            y=[100 * item.simulated for item in info],
            text=names,
            name="predicted latency, simulated accuracy",
            mode="markers",
            marker={"size": 10, "symbol": "circle-open", "color": theme.SERIES[0]},
            hovertemplate="%{text}<br>%{x:.4f} ms, %{y:.1f} %<extra></extra>",
        )
        figure.add_scatter(
            x=[item.measured for item in info],
            y=[100 * item.deployed for item in info],
            text=names,
            name="measured on the file",
            mode="markers",
            marker={"size": 10, "color": theme.SERIES[0]},
            error_x={
                "type": "data",
                "array": [item.high - item.measured for item in info],
                "arrayminus": [item.measured - item.low for item in info],
                "thickness": 1,
            },
            error_y={
                "type": "data",
                "array": [100 * item.half for item in info],
                "thickness": 1,
            },
            hovertemplate="%{text}<br>%{x:.4f} ms, %{y:.1f} %<extra></extra>",
        )
        figure.add_scatter(
            x=[item[1] for item in both.beside],
            y=[100 * item[2] for item in both.beside],
            text=[item[0] for item in both.beside],
            name="baselines, measured",
            mode="markers+text",
            textposition="top center",
            marker={"size": 10, "symbol": "diamond", "color": theme.BASELINE},
            hovertemplate="%{text}<br>%{x:.4f} ms, %{y:.1f} %<extra></extra>",
        )
        return figure

    def alt(self, both: DeployedInfo) -> str:
        """Largest differences in words."""
        info = both.files
        latency = max(abs(item.predicted / item.measured - 1) for item in info)
        accuracy = max(abs(item.simulated - item.deployed) for item in info)
        files = "1 exported file" if len(info) == 1 else f"{len(info)} exported files"
        return (
            f"{files}: predicted latency is at most {100 * latency:.1f} % off "
            f"the measured one, simulated accuracy at most {100 * accuracy:.1f} points."
        )

    def table(self, both: DeployedInfo) -> Table:
        """One row per file."""
        rows = tuple(
            (
                item.policy_id,
                f"{item.predicted:.4f}",
                f"{item.measured:.4f} ({item.low:.4f}–{item.high:.4f})",
                numbers.percent(item.simulated),
                numbers.percent(item.deployed, item.half),
            )
            for item in both.files
        )
        columns = ("policy", "predicted ms", "measured ms", "simulated", "deployed")
        return Table(columns, rows, self.alt(both))


def variants(data: ReportData) -> list[DeployedFigure]:
    """One figure."""
    return [DeployedFigure()]


def _beside(data: ReportData) -> tuple[tuple[str, float, float], ...]:
    """Baselines as they were timed with the last file."""
    timings = [r["latency"]["references"] for r in data.exports if r.get("latency")]
    tags = {str(e.get("tag")): e for e in data.front.policies.values() if e.get("tag")}
    return tuple(
        (tag, found["measured_ms"], float(tags[tag].get("test", tags[tag])["accuracy"]))
        for tag, found in (timings[-1] if timings else {}).items()
        if tag in tags
    )


def _placed(data: ReportData) -> tuple[Placed, ...]:
    found = []
    for record in data.exports:
        own = timed(record.get("latency") or {})
        predicted = record.get("predicted", {}).get("latency_ms")
        if own is None or predicted is None or "deployed" not in record:
            continue
        deployed = record["deployed"]
        low, high = deployed["accuracy_low"], deployed["accuracy_high"]
        found.append(
            Placed(
                str(record["policy_id"]),
                float(predicted),
                own.ms,
                own.low,
                own.high,
                float(record["simulated"]["accuracy"]),
                float(deployed["accuracy"]),
                (high - low) / 2,
            )
        )
    return tuple(found)
