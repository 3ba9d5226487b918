"""One policy, layer by layer: height is bits, width is the layer's share of a cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reports import numbers, theme
from reports.figure import Table, blank
from reports.fronts import cost_objective, positions
from reports.layers import layer_costs
from search.pareto import Floats

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reports.data import ReportData

ORDER = 20
NARROWEST = 0.35
"""Least width of a bar, as a share of the mean width, so that small layers stay visible."""


@dataclass(frozen=True)
class PolicyInfo:
    """A policy per layer, in execution order.

    Attributes:
        policy_id: which policy.
        label: its short name.
        cost: metric whose shares are the widths.
        layers: names.
        weight, activation: bits, ``int[layers]``.
        share: share of the additive cost, ``float[layers]``, sums to 1.
        left, width: bar geometry on an axis from 0 to 100.
    """

    policy_id: str
    label: str
    cost: str
    layers: tuple[str, ...]
    weight: tuple[int, ...]
    activation: tuple[int, ...]
    share: Floats
    left: Floats
    width: Floats


@dataclass(frozen=True)
class PolicyFigure:
    """See the module docstring; without ``policy_id`` it shows the default selection."""

    cost: str
    policy_id: str = ""
    name: str = "policy"
    title: str = "Selected policy"
    question: str = "Where did the bits go, and which layers pay for it?"
    height: int = 260

    def applicable(self, data: ReportData) -> str | None:
        """None, or why no policy can be selected."""
        return None if self._chosen(data) else "There is no point to select."

    def _chosen(self, data: ReportData) -> str | None:
        return self.policy_id or default_selection(data, self.cost)

    def prepare(self, data: ReportData) -> PolicyInfo:
        """Bits and cost share of every layer."""
        chosen = self._chosen(data)
        assert chosen is not None
        row = data.unique.iloc[positions(data.unique, [chosen])[0]]
        codes = data.codes(row["codes"])
        layers = data.space.layers
        member = [data.space.group_of[layer.name] for layer in layers]
        taken = [data.space.groups[g].all_choices[codes[g]] for g in member]
        cost = layer_costs(data, self.cost, codes)
        share = cost / (cost.sum() or 1.0)
        left, width = bars(share)
        return PolicyInfo(
            chosen,
            str(row["tag"]) or f"w{row['mean_weight_bits']:.1f}a{row['mean_activation_bits']:.1f}",
            self.cost,
            tuple(layer.name for layer in layers),
            tuple(choice.weight.bits for choice in taken),
            tuple(choice.activation.bits for choice in taken),
            share,
            left,
            width,
        )

    def plot(self, info: PolicyInfo) -> go.Figure:
        """Weight bits as bars, activation bits as a line of dots over them."""
        title = cost_objective(info.cost).title
        figure = blank(
            self.height,
            xaxis_title=f"layers in order; width: share of {title} (%)",
            yaxis_title="bits",
            showlegend=True,
            bargap=0,
        )
        centre = info.left + info.width / 2
        figure.add_bar(
            x=centre,
            y=list(info.weight),
            width=info.width,
            name="weight bits",
            marker={"color": [theme.bits_colour(bits) for bits in info.weight]},
            hoverinfo="none",
            meta="policy",
        )
        figure.add_scatter(
            x=centre,
            y=list(info.activation),
            name="activation bits",
            mode="markers",
            marker={"symbol": "line-ew-open", "size": 10, "color": theme.BASELINE},
            hoverinfo="none",
            meta="activation",
        )
        figure.update_xaxes(range=[0, 100], showgrid=False)
        top = max(8, *info.weight, *info.activation)
        figure.update_yaxes(
            type="log", tickvals=[1, 2, 3, 4, 6, 8, 16, 32], range=[0, float(np.log10(top * 1.15))]
        )
        return figure

    def alt(self, info: PolicyInfo) -> str:
        """Range of bits and the layer that costs most."""
        dearest = int(np.argmax(info.share))
        return (
            f"Policy {info.policy_id} ({info.label}): weight bits from {min(info.weight)} to "
            f"{max(info.weight)}; {numbers.short(info.layers[dearest], 40)} takes "
            f"{100 * info.share[dearest]:.0f} % of the {cost_objective(info.cost).title}."
        )

    def table(self, info: PolicyInfo) -> Table:
        """Layers with bits and share."""
        columns = ("layer", "weight bits", "activation bits", f"share of {info.cost}")
        rows = zip(info.layers, info.weight, info.activation, info.share, strict=True)
        return Table(
            columns, tuple((n, str(w), str(a), f"{100 * s:.1f} %") for n, w, a, s in rows)
        )


def variants(data: ReportData) -> list[PolicyFigure]:
    """One figure; the page redraws it for every selection."""
    return [PolicyFigure(data.costs[0])]


def default_selection(data: ReportData, cost: str) -> str | None:
    """The knee, else the best front point, else the first successful candidate."""
    front = data.front.fronts.get(cost, ())
    fallback = [*front[-1:], *data.ok["policy_id"].head(1)]
    return data.front.pick("knee", cost) or (fallback[0] if fallback else None)


def bars(share: Floats) -> tuple[Floats, Floats]:
    """Left edges and widths on an axis of 0..100; very small layers get the least width."""
    width = np.maximum(share, NARROWEST / max(len(share), 1))
    width = 100 * width / width.sum()
    return np.r_[0.0, np.cumsum(width)[:-1]], width
