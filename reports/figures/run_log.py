"""Run log: what every worker did when, and how busy it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reports import numbers, theme
from reports.figure import Table, blank
from reports.timeline import Worker, workers

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reports.data import ReportData

ORDER = 90
MOST_TICKS = 200


@dataclass(frozen=True)
class RunLogInfo:
    """Workers in the order of the manifest.

    Attributes:
        quality: name of the quality objective.
        workers: one per trial and attempt.
        best: best quality each one saw, NaN when all failed.
        strategies: for colours.
        absolute: True when all share one clock, False when each starts at its own zero.
    """

    quality: str
    workers: tuple[Worker, ...]
    best: tuple[float, ...]
    strategies: tuple[str, ...]
    absolute: bool


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
        """Evaluations of every worker on one axis of time."""
        found, absolute = workers(data)
        keys = [data.table[key] for key in ("strategy", "seed", "incarnation")]
        values = data.table[data.quality].groupby(keys)
        best = values.max() if data.quality == "accuracy" else values.min()
        return RunLogInfo(
            data.quality,
            found,
            tuple(float(best.loc[w.strategy, w.seed, w.incarnation]) for w in found),
            data.strategies(),
            absolute,
        )

    def plot(self, info: RunLogInfo) -> go.Figure:
        """A line per worker, thick while it evaluates; failures are crosses."""
        styles = theme.styles(info.strategies)
        clock = "the study" if info.absolute else "the trial"
        figure = blank(
            110 + 20 * len(info.workers),
            xaxis_title=f"seconds since {clock} began, pauses of the whole run left out",
            showlegend=False,
        )
        for row, worker in enumerate(info.workers):
            colour = styles[worker.strategy].colour
            edges, rows = busy_line(worker, row)
            quiet = {"mode": "lines", "hoverinfo": "skip"}
            figure.add_scatter(
                x=[worker.start, worker.end[-1]],
                y=[row, row],
                **quiet,
                line={"width": 1, "color": colour},
            )
            figure.add_scatter(x=edges, y=rows, **quiet, line={"width": 7, "color": colour})
            failed = worker.end[worker.failed]
            if len(failed):
                figure.add_scatter(
                    x=failed,
                    y=[row] * len(failed),
                    mode="markers",
                    marker={"symbol": "x", "size": 9, "color": theme.ACCENT},
                    hovertemplate="failed at %{x:.3s} s<extra></extra>",
                )
        names = [worker.name for worker in info.workers]
        figure.update_yaxes(
            tickvals=list(range(len(names))), ticktext=names, autorange="reversed", showgrid=False
        )
        return figure

    def alt(self, info: RunLogInfo) -> str:
        """Number of workers, failures and the longest trial."""
        longest = max(info.workers, key=lambda worker: worker.seconds)
        failed = sum(int(worker.failed.sum()) for worker in info.workers)
        return (
            f"{len(info.workers)} workers, {failed} failed candidates; the longest, "
            f"{longest.name}, took {numbers.seconds(longest.seconds)}, "
            f"{100 * longest.busy:.0f} % of it evaluating."
        )

    def table(self, info: RunLogInfo) -> Table:
        """A row per worker."""
        columns = (
            "worker",
            "candidates",
            "failed",
            f"best {info.quality}",
            "time",
            "evaluating",
            "slowest",
        )
        rows = tuple(
            (
                worker.name,
                str(len(worker.end)),
                str(int(worker.failed.sum())),
                numbers.number(best),
                numbers.seconds(worker.seconds),
                f"{100 * worker.busy:.0f} %",
                numbers.seconds(float(worker.took.max())),
            )
            for worker, best in zip(info.workers, info.best, strict=True)
        )
        return Table(columns, rows, self.alt(info))


def variants(data: ReportData) -> list[RunLogFigure]:
    """One figure."""
    return [RunLogFigure()]


def busy_line(worker: Worker, row: int) -> tuple[list[float | None], list[int | None]]:
    """Begin, end and a gap per evaluation; of many, evenly chosen ones and the last."""
    count = len(worker.end)
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_TICKS)).astype(int))
    edges: list[float | None] = []
    rows: list[int | None] = []
    for end, took in zip(worker.end[chosen].tolist(), worker.took[chosen].tolist(), strict=True):
        edges += [max(end - took, worker.start), end, None]
        rows += [row, row, None]
    return edges, rows
