"""Sensitivity: what each layer loses in each format, according to the stored scores."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from quant.errors import UsageError
from reports import numbers, theme
from reports.figure import Table, blank
from search.pareto import Floats
from search.stats import spearman
from spaces.choices import Choice, parse_choice

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from reports.data import ReportData

ORDER = 40
LONGEST = 60
"""Layers drawn at most, the most sensitive ones; the table holds all."""


@dataclass(frozen=True)
class Lollipop:
    """Scores of one choice over the layers drawn, ``float[layers]``; NaN where not offered."""

    label: str
    bits: int
    value: Floats
    error: Floats


@dataclass(frozen=True)
class SensitivityInfo:
    """What the figure shows.

    Attributes:
        kind: name of the score.
        layers: group names, most sensitive first.
        choices: one series per choice, fewest bits first.
        left_out: layers not drawn.
        truth: Spearman correlation of scores summed over a policy with its measured loss, or
            NaN when too few policies were evaluated.
        policies: number of policies behind ``truth``.
        rules: YAML that keeps the most sensitive layers wide.
    """

    kind: str
    layers: tuple[str, ...]
    choices: tuple[Lollipop, ...]
    left_out: int
    truth: float
    policies: int
    rules: str = ""


@dataclass(frozen=True)
class SensitivityFigure:
    """See the module docstring."""

    kind: str
    height: int
    name: str = ""
    cost: str = ""
    title: str = "Sensitivity"
    question: str = "Which layers pay most for fewer bits, and do the scores tell the truth?"

    def applicable(self, data: ReportData) -> str | None:
        """None, or why there are no scores."""
        if data.sensitivity is None or not len(data.sensitivity):
            return "No strategy of this run asked for sensitivity scores."
        return None

    def prepare(self, data: ReportData) -> SensitivityInfo:
        """Sorts layers by their worst score and splits by choice."""
        assert data.sensitivity is not None
        rows = data.sensitivity[data.sensitivity["kind"] == self.kind]
        rows = rows[rows["value"] > 0]
        worst = rows.groupby("layer", sort=False)["value"].max().sort_values(ascending=False)
        layers = [str(name) for name in worst.index]
        shown = layers[:LONGEST]
        texts = sorted(rows["choice"].unique(), key=lambda text: (_bits(text), text))
        truth, policies = rank_agreement(data, self.kind)
        info = SensitivityInfo(
            self.kind,
            tuple(shown),
            tuple(lollipop(rows[rows["choice"] == text], text, shown) for text in texts),
            len(layers) - len(shown),
            truth,
            policies,
        )
        return replace(info, rules=keep_rules(data, info))

    def plot(self, info: SensitivityInfo) -> go.Figure:
        """A row per layer, a dot per choice, on a logarithmic axis."""
        figure = blank(
            max(240, 120 + 20 * len(info.layers)), xaxis_title=f"score {info.kind} (log)"
        )
        names = [numbers.plot_text(name) for name in info.layers]
        rows = list(range(len(names)))
        for index, series in enumerate(info.choices):
            figure.add_scatter(
                x=series.value,
                y=rows,
                name=series.label,
                mode="markers",
                error_x={"array": series.error, "thickness": 0.75, "width": 0},
                marker={
                    "color": theme.bits_colour(series.bits),
                    "symbol": theme.MARKS[index % len(theme.MARKS)],
                    "size": 9,
                },
                hovertemplate=f"{series.label}: %{{x:.3g}}<extra></extra>",
            )
        figure.update_xaxes(type="log", exponentformat="power", dtick=1)
        figure.update_yaxes(tickvals=rows, ticktext=names, autorange="reversed")
        return figure

    def alt(self, info: SensitivityInfo) -> str:
        """The most and least sensitive layers."""
        most = ", ".join(numbers.short(name, 40) for name in info.layers[:3])
        return f"Score {info.kind}: most sensitive are {most}. {agreement_text(info)}"

    def table(self, info: SensitivityInfo) -> Table:
        """Score of every layer and choice."""
        columns = ("layer", *(series.label for series in info.choices))
        rows = tuple(
            (name, *(numbers.number(float(series.value[i])) for series in info.choices))
            for i, name in enumerate(info.layers)
        )
        left_out = f" {info.left_out} less sensitive layers are left out." if info.left_out else ""
        return Table(columns, rows, agreement_text(info) + left_out, info.rules)


def variants(data: ReportData) -> list[SensitivityFigure]:
    """One figure per stored score."""
    if data.sensitivity is None or not len(data.sensitivity):
        return [SensitivityFigure("", 200, "sensitivity")]
    kinds = sorted(str(kind) for kind in data.sensitivity["kind"].unique())
    return [SensitivityFigure(kind, 420, f"sensitivity-{slug(kind)}") for kind in kinds]


def slug(text: str) -> str:
    """Letters, digits and dashes only, for element ids."""
    return "".join(char if char.isalnum() else "-" for char in text)


def lollipop(rows: pd.DataFrame, text: str, layers: list[str]) -> Lollipop:
    """Values of one choice aligned to ``layers``."""
    table = rows.drop_duplicates("layer").set_index("layer").reindex(layers)
    choice = _choice(text)
    return Lollipop(
        choice.label if choice else text,
        choice.weight.bits if choice else 32,
        table["value"].to_numpy(dtype=np.float64),
        table["standard_error"].fillna(0.0).to_numpy(dtype=np.float64),
    )


def rank_agreement(data: ReportData, kind: str) -> tuple[float, int]:
    """Spearman correlation of additive scores with measured losses over evaluated policies.

    Returns:
        The correlation and the number of policies; NaN below ten.
    """
    assert data.sensitivity is not None
    rows = data.unique[(data.unique["status"] == "ok") & data.unique["searchable"]]
    table = score_table(data, kind)
    codes = np.array([data.codes(text) for text in rows["codes"]])
    if len(rows) < 10:
        return float("nan"), len(rows)
    predicted = table[np.arange(table.shape[0]), codes].sum(axis=1)
    usable = np.isfinite(predicted)
    if usable.sum() < 10:
        return float("nan"), int(usable.sum())
    quality = "kl" if rows["kl"].notna().all() else "ce"
    actual = rows[quality].to_numpy(dtype=np.float64)
    return spearman(predicted[usable], actual[usable]), int(usable.sum())


def score_table(data: ReportData, kind: str) -> Floats:
    """Scores ``float[groups, choices]``, NaN where none was computed."""
    assert data.sensitivity is not None
    groups = data.space.groups
    width = max(len(group.all_choices) for group in groups)
    table = np.full((len(groups), width), np.nan)
    places = [{c.text: i for i, c in enumerate(group.all_choices)} for group in groups]
    rows = data.sensitivity[data.sensitivity["kind"] == kind]
    for group, choice, value in zip(rows["group"], rows["choice"], rows["value"], strict=True):
        if choice in places[group]:
            table[group, places[group][choice]] = value
    return table


def keep_rules(data: ReportData, info: SensitivityInfo, top: int = 5) -> str:
    """Rules for ``conf/space`` that keep the most sensitive layers at their widest choice."""
    groups = {group.name: group for group in data.space.groups}
    lines = ["rules:"]
    for name in info.layers[:top]:
        widest = max(groups[name].choices, key=lambda choice: choice.weight.bits)
        pattern = json.dumps(f"^{re.escape(name)}$", ensure_ascii=False)
        lines.append(f"  - {{name: {pattern}, choices: [{json.dumps(widest.text)}]}}")
    return "\n".join(lines)


def agreement_text(info: SensitivityInfo) -> str:
    """How well summed scores rank evaluated policies, in words."""
    if not np.isfinite(info.truth):
        return "Too few policies were evaluated to check the scores against losses."
    return (
        f"Summed over a policy, the score ranks {info.policies} evaluated policies with "
        f"Spearman correlation {info.truth:.2f} to their KL divergence."
    )


def _choice(text: str) -> Choice | None:
    try:
        return parse_choice(text)
    except UsageError:
        return None


def _bits(text: str) -> int:
    choice = _choice(text)
    return choice.weight.bits if choice else 99
