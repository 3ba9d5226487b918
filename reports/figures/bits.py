"""Bits along the front: which layers are spared first as the budget shrinks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from reports import numbers, theme
from reports.figure import Table, blank
from reports.fronts import cost_objective

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from reports.data import ReportData

ORDER = 30
NUMBERED = (40, 80)
"""Most columns and rows at which every cell carries its number."""

MARGIN = 0.06
"""Share of the width for the column that tells how often a layer is at its fewest bits."""

Bits = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BitsInfo:
    """Bit-widths of the front.

    Attributes:
        cost: metric of the front.
        layers: layer names in execution order.
        policy_ids: front points by rising cost.
        costs: cost of each, written.
        weight: weight bits, ``int[layers, points]``.
        activation: activation bits, ``int[layers, points]``.
        at_minimum: share of front points at which a layer takes its fewest weight bits.
    """

    cost: str
    layers: tuple[str, ...]
    policy_ids: tuple[str, ...]
    costs: tuple[str, ...]
    weight: Bits
    activation: Bits
    at_minimum: tuple[float, ...]

    @property
    def mixed_activations(self) -> bool:
        """True when activations differ between layers or points."""
        return len(np.unique(self.activation)) > 1


@dataclass(frozen=True)
class BitsFigure:
    """See the module docstring."""

    cost: str
    height: int = 520
    name: str = "bits"
    title: str = "Bits along the front"
    question: str = "Which layers keep their bits as the budget shrinks?"

    def applicable(self, data: ReportData) -> str | None:
        """None, or why there are no bits to show."""
        if not data.front.fronts.get(self.cost):
            return "There is no front to walk along."
        return None

    def prepare(self, data: ReportData) -> BitsInfo:
        """Decodes every front policy into bits per layer."""
        rows = data.front_table(self.cost)
        codes = np.array([data.codes(text) for text in rows["codes"]])
        members = [data.space.group_of[layer.name] for layer in data.space.layers]
        options = [group.all_choices for group in data.space.groups]
        taken = [[options[g][c] for c in codes[:, g]] for g in members]
        weight = np.array([[choice.weight.bits for choice in row] for row in taken])
        activation = np.array([[choice.activation.bits for choice in row] for row in taken])
        fewest = [min(c.weight.bits for c in data.space.groups[g].choices) for g in members]
        at_minimum = (weight == np.array(fewest)[:, None]).mean(axis=1)
        return BitsInfo(
            self.cost,
            tuple(layer.name for layer in data.space.layers),
            tuple(rows["policy_id"]),
            tuple(numbers.cost(self.cost, value) for value in rows[self.cost]),
            weight,
            activation,
            tuple(float(share) for share in at_minimum),
        )

    def plot(self, info: BitsInfo) -> go.Figure:
        """A heat map per tensor kind; activations only where they differ."""
        panels = [("weight bits", info.weight)]
        panels += [("activation bits", info.activation)] if info.mixed_activations else []
        height = panel_height(len(info.layers))
        figure = blank(height, showlegend=False)
        share = (1 - MARGIN) / len(panels)
        for index, (title, bits) in enumerate(panels, start=1):
            suffix = "" if index == 1 else str(index)
            figure.add_heatmap(
                **_heatmap(info, bits, title), xaxis=f"x{suffix}", yaxis=f"y{suffix}"
            )
            left = (index - 1) * share
            axis = f"xaxis{suffix}"
            figure.update_layout(
                {
                    axis: {
                        "title": f"{title}, by rising {cost_objective(info.cost).title}",
                        "domain": [left + 0.02 * (index - 1), left + share],
                        "showgrid": False,
                        "nticks": 8,
                        "anchor": f"y{suffix}",
                        **_ticks(info),
                    },
                    f"yaxis{suffix}": _layer_axis(info, show=index == 1, anchor=f"x{suffix}"),
                }
            )
        _add_margin(figure, info, len(panels) + 1)
        return figure

    def alt(self, info: BitsInfo) -> str:
        """The layers spared most and least."""
        order = np.argsort(info.at_minimum, kind="stable")
        spared, lowered = (
            ", ".join(numbers.short(info.layers[i], 40) for i in part)
            for part in (order[:3], order[::-1][:3])
        )
        return (
            f"Weight bits of {len(info.layers)} layers at {len(info.policy_ids)} front points. "
            f"Least often at their fewest bits: {spared}. Most often: {lowered}."
        )

    def table(self, info: BitsInfo) -> Table:
        """Per layer: bits at both ends and in the middle, and how often it is at the fewest."""
        spots = sorted({0, len(info.policy_ids) // 2, len(info.policy_ids) - 1})
        columns = ("layer", *(f"w/a at {info.costs[i]}" for i in spots), "at fewest weight bits")
        rows = tuple(
            (
                name,
                *(f"{info.weight[row, i]} / {info.activation[row, i]}" for i in spots),
                f"{100 * info.at_minimum[row]:.0f} %",
            )
            for row, name in enumerate(info.layers)
        )
        return Table(columns, rows)


def variants(data: ReportData) -> list[BitsFigure]:
    """One heat map per front."""
    height = panel_height(len(data.space.layers))
    return [BitsFigure(cost, height) for cost in data.costs]


def panel_height(layers: int) -> int:
    """Pixels: rows are 22 high, 16 from 40 layers on."""
    return max(220, 90 + (22 if layers < 40 else 16) * layers)


def discrete_scale(levels: list[int]) -> list[list[object]]:
    """A plotly colour scale with one flat step per level of ``levels``."""
    scale: list[list[object]] = []
    for index, bits in enumerate(levels):
        colour = theme.bits_colour(bits)
        scale += [[index / len(levels), colour], [(index + 1) / len(levels), colour]]
    return scale


def _heatmap(info: BitsInfo, bits: Bits, title: str) -> dict[str, object]:
    levels = [int(level) for level in np.unique(np.concatenate([info.weight, info.activation]))]
    # Colours follow the rank of a width, so that 8 and 32 do not leave a void between them.
    ranks = np.searchsorted(levels, bits)
    columns, rows = len(info.policy_ids), len(info.layers)
    numbered = columns <= NUMBERED[0] and rows <= NUMBERED[1]
    return {
        "z": ranks.astype(np.int8),
        "y": [str(position) for position in range(rows)],
        "text": bits.astype(str) if numbered else None,
        "texttemplate": "%{text}" if numbered else None,
        "textfont": {"size": 11},
        "xgap": 1 if columns <= 2 * NUMBERED[0] else 0,
        "zmin": -0.5,
        "zmax": len(levels) - 0.5,
        "colorscale": discrete_scale(levels),
        "hoverinfo": "none",
        "showscale": True,
        "colorbar": {
            "tickvals": list(range(len(levels))),
            "ticktext": [str(level) for level in levels],
            "title": {"text": "bits", "side": "right"},
            "thickness": 12,
            "len": 0.6,
            "outlinewidth": 0,
        },
        "name": title,
        "meta": "bits",
    }


def _add_margin(figure: go.Figure, info: BitsInfo, index: int) -> None:
    """How often each layer is at its fewest weight bits, as a column of its own."""
    figure.add_heatmap(
        z=[[share] for share in info.at_minimum],
        y=[str(position) for position in range(len(info.layers))],
        text=[[f"{100 * share:.0f}"] for share in info.at_minimum],
        texttemplate="%{text}",
        textfont={"size": 11},
        colorscale=[[0, "rgba(0,0,0,0)"], [1, theme.faint(theme.BASELINE, 0.45)]],
        zmin=0,
        zmax=1,
        showscale=False,
        ygap=1,
        hoverinfo="none",
        meta="margin",
        xaxis=f"x{index}",
        yaxis=f"y{index}",
    )
    axis = {
        "domain": [1 - 0.75 * MARGIN, 1],
        "tickvals": [0],
        "ticktext": ["% at<br>fewest"],
        "showgrid": False,
        "zeroline": False,
        "anchor": f"y{index}",
    }
    names = _layer_axis(info, show=False, anchor=f"x{index}")
    figure.update_layout({f"xaxis{index}": axis, f"yaxis{index}": names})


def _ticks(info: BitsInfo) -> dict[str, object]:
    count = len(info.costs)
    step = max(1, -(-count // 8))
    spots = list(range(0, count, step))
    return {"tickvals": spots, "ticktext": [info.costs[i] for i in spots], "tickangle": 0}


def _layer_axis(info: BitsInfo, *, show: bool, anchor: str) -> dict[str, object]:
    names = [numbers.plot_text(name) for name in info.layers]
    positions = [str(position) for position in range(len(names))]
    return {
        # Categories, so that the page can list layers in another order.
        "type": "category",
        "categoryorder": "array",
        "categoryarray": positions,
        "autorange": "reversed",
        "tickvals": positions if show else [],
        "ticktext": names if show else [],
        "showgrid": False,
        "zeroline": False,
        "anchor": anchor,
    }
