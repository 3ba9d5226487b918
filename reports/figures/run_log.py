"""Run log: what every trial did when, what failed, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reports import numbers, theme
from reports.figure import Table, blank

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reports.data import ReportData

ORDER = 90


@dataclass(frozen=True)
class TrialRow:
    """One trial.

    Attributes:
        name: ``<strategy>-<seed>``.
        strategy: its strategy.
        seconds: when each candidate was done, since the trial began, ``float[n]``.
        failed: candidates without qualities.
        best: best quality seen, NaN when all failed.
        slowest_s: longest evaluation.
    """

    name: str
    strategy: str
    seconds: tuple[float, ...]
    failed: tuple[bool, ...]
    best: float
    slowest_s: float


@dataclass(frozen=True)
class RunLogInfo:
    """Trials and the reasons of failures, most frequent first."""

    quality: str
    trials: tuple[TrialRow, ...]
    strategies: tuple[str, ...]
    reasons: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class RunLogFigure:
    """See the module docstring."""

    name: str = "log"
    cost: str = ""
    title: str = "Run log"
    question: str = "What ran when, and what failed?"
    height: int = 300

    def applicable(self, data: ReportData) -> str | None:
        """None, or why there are no trials."""
        return None if data.trials() else "Only baselines were evaluated."

    def prepare(self, data: ReportData) -> RunLogInfo:
        """Times and failures of every trial."""
        trials = []
        for strategy, seed, rows in data.trials():
            values = rows[data.quality].dropna()
            best = values.max() if data.quality == "accuracy" else values.min()
            trials.append(
                TrialRow(
                    f"{strategy}-{seed}",
                    strategy,
                    tuple(rows["wall_s"].tolist()),
                    tuple((rows["status"] != "ok").tolist()),
                    float(best) if len(values) else float("nan"),
                    float(rows["eval_s"].max()),
                )
            )
        errors = data.table["error"][data.table["status"] != "ok"].fillna("").value_counts()
        reasons = tuple((str(text) or "no reason recorded", int(n)) for text, n in errors.items())
        return RunLogInfo(data.quality, tuple(trials), data.strategies(), reasons)

    def plot(self, info: RunLogInfo) -> go.Figure:
        """A line per trial, a tick per candidate; failures are crosses."""
        styles = theme.styles(info.strategies)
        figure = blank(
            110 + 20 * len(info.trials),
            xaxis_title="seconds since the trial began",
            showlegend=False,
        )
        for row, trial in enumerate(info.trials):
            style = styles[trial.strategy]
            figure.add_scatter(
                x=[0.0, *_thinned(trial.seconds)],
                y=[row] * (len(_thinned(trial.seconds)) + 1),
                mode="lines+markers",
                line={"width": 1, "color": style.colour},
                marker={"symbol": "line-ns-open", "size": 7, "color": style.colour},
                hovertemplate=f"{trial.name} at %{{x:.3s}} s<extra></extra>",
            )
            failed = [s for s, bad in zip(trial.seconds, trial.failed, strict=True) if bad]
            if failed:
                figure.add_scatter(
                    x=failed,
                    y=[row] * len(failed),
                    mode="markers",
                    marker={"symbol": "x", "size": 9, "color": theme.ACCENT},
                    hovertemplate="failed at %{x:.3s} s<extra></extra>",
                )
        names = [trial.name for trial in info.trials]
        figure.update_yaxes(
            tickvals=list(range(len(names))), ticktext=names, autorange="reversed", showgrid=False
        )
        return figure

    def alt(self, info: RunLogInfo) -> str:
        """Number of trials, failures and the longest trial."""
        longest = max(info.trials, key=lambda trial: trial.seconds[-1])
        failed = sum(sum(trial.failed) for trial in info.trials)
        return (
            f"{len(info.trials)} trials, {failed} failed candidates; the longest, {longest.name}, "
            f"took {numbers.seconds(longest.seconds[-1])}."
        )

    def table(self, info: RunLogInfo) -> Table:
        """A row per trial, then failures by reason."""
        columns = ("trial", "candidates", "failed", f"best {info.quality}", "time", "slowest")
        rows = tuple(
            (
                trial.name,
                str(len(trial.seconds)),
                str(sum(trial.failed)),
                numbers.number(trial.best),
                numbers.seconds(trial.seconds[-1]),
                numbers.seconds(trial.slowest_s),
            )
            for trial in info.trials
        )
        told = "; ".join(f"{count} x {text}" for text, count in info.reasons)
        return Table(columns, rows, f"Failures by reason: {told}." if told else "Nothing failed.")


def variants(data: ReportData) -> list[RunLogFigure]:
    """One figure."""
    return [RunLogFigure()]


def _thinned(seconds: tuple[float, ...], limit: int = 200) -> list[float]:
    """At most ``limit`` ticks per trial, evenly chosen, the last one kept."""
    if len(seconds) <= limit:
        return list(seconds)
    chosen = np.linspace(0, len(seconds) - 1, limit).astype(int)
    return [seconds[i] for i in chosen]
