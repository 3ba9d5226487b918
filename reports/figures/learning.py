"""How trials that learn learned: returns of an agent, losses and certainty of learned shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reports import numbers, theme
from reports.figure import Table, blank

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reports.data import ReportData

ORDER = 55
POINTS = 400
CURVES = {
    "curve": "mean return (in spreads of the front)",
    "loss": "loss of the mixture (nats, log scale)",
    "entropy": "entropy of the shares (1 is equal, 0 is decided)",
}
AXES = {"curve": "mean return (spreads)", "loss": "loss (nats)", "entropy": "entropy of shares"}


@dataclass(frozen=True)
class LearningInfo:
    """One kind of curve.

    Attributes:
        kind: key of :data:`CURVES`.
        trials: names of the trials that have one.
        values: their values, an entry per update or step.
        gaps: discretisation gaps of each trial's budgets, nats; empty for other kinds.
    """

    kind: str
    trials: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    gaps: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class LearningFigure:
    """See the module docstring."""

    kind: str
    cost: str = ""
    title: str = "What the learners learned"
    question: str = "Did training settle, and does a projected policy keep what the mixture had?"
    height: int = 300

    @property
    def name(self) -> str:
        """One element per kind of curve."""
        return f"learning-{self.kind}"

    def applicable(self, data: ReportData) -> str | None:
        """None, or why there is nothing to draw."""
        found = any(_numbers(record.get(self.kind)) for record in data.learning.values())
        return None if found else "No trial recorded this."

    def prepare(self, data: ReportData) -> LearningInfo:
        """Curves of all trials that have one."""
        kept = {n: r for n, r in data.learning.items() if _numbers(r.get(self.kind))}
        return LearningInfo(
            self.kind,
            tuple(kept),
            tuple(_numbers(record[self.kind]) for record in kept.values()),
            tuple(_gaps(record) if self.kind == "loss" else () for record in kept.values()),
        )

    def plot(self, info: LearningInfo) -> go.Figure:
        """A line per trial, thinned to a few hundred points."""
        figure = blank(
            self.height,
            xaxis_title="updates" if info.kind == "curve" else "steps of gradient descent",
            yaxis_title=AXES[info.kind],
        )
        if info.kind == "loss":
            figure.update_yaxes(type="log", exponentformat="power")
        for index, (trial, values) in enumerate(zip(info.trials, info.values, strict=True)):
            places = np.unique(
                np.linspace(0, len(values) - 1, min(len(values), POINTS)).astype(int)
            )
            figure.add_scatter(
                x=places,
                y=[values[place] for place in places],
                name=trial,
                mode="lines",
                line={"width": 1.5, "color": theme.SERIES[index % len(theme.SERIES)]},
                hovertemplate="%{x}: %{y:.4g}<extra></extra>",
            )
        return figure

    def alt(self, info: LearningInfo) -> str:
        """First and last values, and the gaps."""
        told = [
            f"{trial} from {numbers.number(_mean(values[:20]))} to "
            f"{numbers.number(_mean(values[-20:]))}"
            for trial, values in zip(info.trials, info.values, strict=True)
        ]
        gaps = [gap for found in info.gaps for gap in found]
        words = ""
        if gaps:
            words = (
                f" The likeliest policy of a budget is {numbers.number(float(np.median(gaps)))} "
                f"nats worse than its mixture (median of {len(gaps)} budgets, "
                f"{numbers.number(min(gaps))} to {numbers.number(max(gaps))})."
            )
        return f"{CURVES[info.kind].capitalize()}: {'; '.join(told)}.{words}"

    def table(self, info: LearningInfo) -> Table:
        """A row per trial."""
        columns = ("trial", "entries", "first 20, mean", "last 20, mean", "median gap (nats)")
        rows = tuple(
            (
                trial,
                str(len(values)),
                numbers.number(_mean(values[:20])),
                numbers.number(_mean(values[-20:])),
                numbers.number(float(np.median(gaps))) if gaps else "–",
            )
            for trial, values, gaps in zip(info.trials, info.values, info.gaps, strict=True)
        )
        return Table(columns, rows, self.alt(info))


def variants(data: ReportData) -> list[LearningFigure]:
    """A figure per kind of curve that some trial recorded."""
    return [
        LearningFigure(kind)
        for kind in CURVES
        if any(_numbers(record.get(kind)) for record in data.learning.values())
    ]


def _numbers(values: Any) -> tuple[float, ...]:
    """Finite numbers of a list; nothing for anything else."""
    if not isinstance(values, list):
        return ()
    kept = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return tuple(v for v in kept if np.isfinite(v))


def _gaps(record: Mapping[str, Any]) -> tuple[float, ...]:
    items = record.get("gaps")
    found = [item.get("gap") for item in items if isinstance(item, dict)] if items else []
    return _numbers(found)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
