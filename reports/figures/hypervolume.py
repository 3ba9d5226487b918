"""Did the search work: hypervolume as evaluations and seconds are spent.

All strategies share the reference point stored with the results. One line per trial below three
seeds; from three seeds on the median with the band between the quartiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reports import numbers, theme
from reports.figure import Table, blank, compact
from search.fronts import plane
from search.pareto import Floats, anytime_hypervolume, normalised_hypervolume

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from reports.data import ReportData

ORDER = 50
BAND_SEEDS = 3
GRID = 160
WIDE = 200.0
"""Ratio of last to first cost from which the axis is logarithmic."""

SPENT = {
    "evaluations": "evaluation-equivalents, scores included",
    "seconds": "seconds of the trial, scores included",
}


@dataclass(frozen=True)
class Curve:
    """Hypervolume of one trial: ``spent[n]`` rises, ``share[n]`` never falls."""

    strategy: str
    seed: int
    spent: Floats
    share: Floats


@dataclass(frozen=True)
class Summary:
    """A strategy over its seeds on a common grid; bands are the quartiles."""

    strategy: str
    seeds: int
    spent: Floats
    median: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Difference:
    """Median final hypervolume of a strategy minus that of random, with a 95 % interval."""

    strategy: str
    median: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class HypervolumeInfo:
    """What the curves show.

    Attributes:
        spent: ``"evaluations"`` or ``"seconds"``.
        curves: every trial.
        summaries: strategies with at least three seeds.
        uniform: hypervolume of the uniform baselines together.
        together: hypervolume of everything found.
        differences: final comparison with random, when random ran.
        strategies: in the order of the page's colours.
        why: how the reference point was chosen.
    """

    spent: str
    curves: tuple[Curve, ...]
    summaries: tuple[Summary, ...]
    uniform: float
    together: float
    differences: tuple[Difference, ...]
    strategies: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class HypervolumeFigure:
    """See the module docstring."""

    cost: str
    spent: str
    name: str = ""
    title: str = "Did the search work?"
    question: str = "How fast does each strategy close in on the front?"
    height: int = 380

    def applicable(self, data: ReportData) -> str | None:
        """None, or why there are no curves."""
        if self.cost not in data.front.reference:
            return "No reference point is stored yet; it is fixed when the run finishes."
        if not data.trials():
            return "Only baselines were evaluated."
        return None

    def prepare(self, data: ReportData) -> HypervolumeInfo:
        """Anytime curves of every trial under the stored reference point."""
        curves = tuple(
            trial_curve(data, self.cost, self.spent, strategy, seed, rows)
            for strategy, seed, rows in data.trials()
        )
        finals = {
            name: np.array([c.share[-1] for c in curves if c.strategy == name])
            for name in data.strategies()
        }
        baselines = data.ok[(data.ok["strategy"] == "baseline") & data.ok["searchable"]]
        return HypervolumeInfo(
            self.spent,
            curves,
            tuple(summarise(curves, name) for name in _repeated(curves, data.strategies())),
            share_of(data, self.cost, baselines),
            share_of(data, self.cost, data.ok[data.ok["searchable"]]),
            differences(finals),
            data.strategies(),
            data.front.reference[self.cost].why,
        )

    def plot(self, info: HypervolumeInfo) -> go.Figure:
        """Median lines with bands, or thin lines for few seeds; uniform policies as a level."""
        styles = theme.styles(info.strategies)
        figure = blank(
            self.height,
            xaxis_title=SPENT[info.spent],
            yaxis_title="hypervolume (share of box)",
        )
        start, end = spent_range(info)
        # One strategy's scores can cost a hundred times another's evaluations.
        log = start > 0 and end > WIDE * start
        figure.update_xaxes(type="log" if log else "linear", rangemode="tozero")
        for summary in info.summaries:
            for trace in _band(summary, styles[summary.strategy]):
                figure.add_scatter(**trace)
        banded = {summary.strategy for summary in info.summaries}
        for curve in info.curves:
            if curve.strategy not in banded:
                figure.add_scatter(**_line(curve, styles[curve.strategy]))
        figure.add_scatter(
            x=[start if log else 0.0, end],
            y=[info.uniform] * 2,
            name="uniform policies",
            mode="lines",
            line={"color": theme.BASELINE, "dash": "dot", "width": 1.5},
            hovertemplate="uniform policies %{y:.3f}<extra></extra>",
        )
        return figure

    def alt(self, info: HypervolumeInfo) -> str:
        """Final hypervolumes in words."""
        finals = {
            name: np.median([c.share[-1] for c in info.curves if c.strategy == name])
            for name in info.strategies
        }
        told = ", ".join(f"{name} {value:.3f}" for name, value in finals.items())
        return (
            f"Final normalised hypervolume against {SPENT[info.spent]} (median over seeds): "
            f"{told}; uniform policies {info.uniform:.3f}."
        )

    def table(self, info: HypervolumeInfo) -> Table:
        """Final hypervolume per strategy and the difference to random."""
        against = {item.strategy: item for item in info.differences}
        rows = []
        for name in info.strategies:
            final = np.array([c.share[-1] for c in info.curves if c.strategy == name])
            difference = against.get(name)
            told = (
                f"{numbers.number(difference.median, 0.01)} "
                f"[{numbers.number(difference.low, 0.01)}, "
                f"{numbers.number(difference.high, 0.01)}]"
                if difference
                else "–"
            )
            rows.append((name, str(len(final)), f"{np.median(final):.4f}", told))
        rows.append(("uniform policies", "", f"{info.uniform:.4f}", ""))
        rows.append(("everything together", "", f"{info.together:.4f}", ""))
        fewest = min((int(row[1]) for row in rows if row[1]), default=0)
        note = (
            f"Seeds per strategy: {fewest}; indicative only, claims need 10. "
            if fewest < 10
            else ""
        )
        columns = ("strategy", "seeds", "final (median)", "difference to random [95 %]")
        return Table(columns, tuple(rows), f"{note}Reference point: {info.why}.")


def variants(data: ReportData) -> list[HypervolumeFigure]:
    """Per cost: against evaluations and against seconds."""
    return [
        HypervolumeFigure(cost, spent, f"hypervolume-{spent}")
        for spent in SPENT
        for cost in data.costs
    ]


def spent_range(info: HypervolumeInfo) -> tuple[float, float]:
    """Least cost of a first candidate and greatest cost of a last one."""
    return (
        min(float(curve.spent[0]) for curve in info.curves),
        max(float(curve.spent[-1]) for curve in info.curves),
    )


def share_of(data: ReportData, cost: str, rows: pd.DataFrame) -> float:
    """Normalised hypervolume of some candidates under the stored reference point."""
    reference = data.front.reference[cost]
    points = plane(rows, data.quality, cost)
    return normalised_hypervolume(points, np.array(reference.ideal), np.array(reference.point))


def trial_curve(
    data: ReportData, cost: str, spent: str, strategy: str, seed: int, rows: pd.DataFrame
) -> Curve:
    """Hypervolume of one trial after each of its candidates.

    Failed candidates and policies outside the space add nothing, but their cost counts.
    """
    reference = data.front.reference[cost]
    points = plane(rows, data.quality, cost)
    points[(rows["status"] != "ok").to_numpy() | ~rows["searchable"].to_numpy(dtype=bool)] = np.nan
    share = anytime_hypervolume(points, np.array(reference.ideal), np.array(reference.point))
    if spent == "seconds":
        x = rows["wall_s"].to_numpy(dtype=np.float64)
    else:
        x = (rows["n_true"] + rows["n_forward"]).to_numpy(dtype=np.float64)
    return Curve(strategy, seed, np.maximum.accumulate(x), share)


def summarise(curves: tuple[Curve, ...], strategy: str) -> Summary:
    """Quartiles over the seeds of a strategy, from where all seeds have begun."""
    own = [curve for curve in curves if curve.strategy == strategy]
    start = max(curve.spent[0] for curve in own)
    end = max(curve.spent[-1] for curve in own)
    grid = np.geomspace(start, end, GRID) if start > 0 else np.linspace(start, end, GRID)
    values = np.array([step(curve, grid) for curve in own])
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
    return Summary(strategy, len(own), grid, median, low, high)


def step(curve: Curve, grid: Floats) -> Floats:
    """Value of a curve at each point of ``grid``: that of the last candidate before it."""
    index = np.searchsorted(curve.spent, grid, side="right") - 1
    values: Floats = np.where(index < 0, 0.0, curve.share[np.maximum(index, 0)])
    return values


def differences(finals: dict[str, Floats]) -> tuple[Difference, ...]:
    """Median differences to random over matching draws, with bootstrap intervals."""
    base = finals.get("random")
    if base is None or not len(base):
        return ()
    found = []
    for name, values in finals.items():
        if name == "random" or not len(values):
            continue
        pairs = (values[:, None] - base[None, :]).ravel()
        low, high = _two_sample(values, base)
        found.append(Difference(name, float(np.median(pairs)), low, high, len(values)))
    return tuple(found)


def _two_sample(values: Floats, base: Floats) -> tuple[float, float]:
    """Bootstrap interval of the difference of medians; both samples are redrawn."""
    if len(values) == len(base) == 1:
        gap = float(values[0] - base[0])
        return gap, gap
    rng = np.random.default_rng(0)
    first = values[rng.integers(0, len(values), (2000, len(values)))]
    second = base[rng.integers(0, len(base), (2000, len(base)))]
    gaps = np.median(first, axis=1) - np.median(second, axis=1)
    low, high = np.quantile(gaps, [0.025, 0.975])
    return float(low), float(high)


def _repeated(curves: tuple[Curve, ...], strategies: tuple[str, ...]) -> list[str]:
    counts = {name: sum(c.strategy == name for c in curves) for name in strategies}
    return [name for name, count in counts.items() if count >= BAND_SEEDS]


def _band(summary: Summary, style: theme.Style) -> list[dict[str, object]]:
    name = f"{summary.strategy} (n={summary.seeds})"
    edge = {
        "x": compact(summary.spent),
        "mode": "lines",
        "line": {"width": 0, "color": style.colour, "shape": "hv"},
        "legendgroup": name,
        "showlegend": False,
        "hoverinfo": "skip",
    }
    return [
        {**edge, "y": compact(summary.low)},
        {
            **edge,
            "y": compact(summary.high),
            "fill": "tonexty",
            "opacity": 0.2,
            "fillcolor": theme.faint(style.colour),
        },
        {
            "x": compact(summary.spent),
            "y": compact(summary.median),
            "name": name,
            "mode": "lines",
            "line": {"color": style.colour, "dash": style.dash, "width": 2.25, "shape": "hv"},
            "legendgroup": name,
            "hovertemplate": f"{summary.strategy} %{{y:.3f}} at %{{x:.3s}}<extra></extra>",
        },
    ]


def _line(curve: Curve, style: theme.Style) -> dict[str, object]:
    keep = np.r_[True, np.diff(curve.share) > 0]
    keep[-1] = True
    return {
        "x": curve.spent[keep],
        "y": curve.share[keep],
        "name": f"{curve.strategy} (seed {curve.seed})",
        "mode": "lines",
        "line": {"color": style.colour, "dash": style.dash, "width": 1.75, "shape": "hv"},
        "hovertemplate": f"{curve.strategy} %{{y:.3f}} at %{{x:.3s}}<extra></extra>",
    }
