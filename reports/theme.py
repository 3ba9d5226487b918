"""Colours, marks and plot templates: one look for every figure, light and dark.

Strategy colours are six of Okabe and Ito (2008), told apart under protan-, deuteran- and
tritanopia; a marker shape and a dash repeat every distinction, because two of the colours are
faint on white. Bit-widths take discrete steps of viridis and always carry a printed number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FONT = 'ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif'
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKS = ("circle", "square", "triangle-up", "diamond", "cross", "x")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
BASELINE = "#7d8590"
ACCENT = "#c2185b"
"""The selected point; the one colour used for nothing else."""

BITS = {
    1: "#440154",
    2: "#482878",
    3: "#3e4989",
    4: "#31688e",
    5: "#26828e",
    6: "#1f9e89",
    7: "#35b779",
    8: "#6ece58",
    16: "#b5de2b",
    32: "#fde725",
}
"""Viridis from few bits (dark) to many (bright)."""


@dataclass(frozen=True)
class Mode:
    """Colours of the light or the dark page that plots need."""

    ink: str
    muted: str
    grid: str
    surface: str


LIGHT = Mode("#1b1f24", "#57606a", "#e4e7eb", "#ffffff")
DARK = Mode("#e6e9ed", "#a2abb6", "#2f363f", "#1b2027")


@dataclass(frozen=True)
class Style:
    """How one strategy is drawn."""

    colour: str
    mark: str
    dash: str


def styles(strategies: Sequence[str]) -> Mapping[str, Style]:
    """A style per strategy; beyond six, colours repeat with other marks and dashes."""
    found = {"baseline": Style(BASELINE, "diamond-tall", "dot")}
    for index, name in enumerate(strategies):
        turn = index // len(SERIES)
        found[name] = Style(
            SERIES[index % len(SERIES)],
            MARKS[(index + turn) % len(MARKS)],
            DASHES[(index + turn) % len(DASHES)],
        )
    return found


PARTS = ("#3b5b92", "#6f8fbf", "#a9bfdc", "#8a6d9e", "#bda2c9", "#5f9e8f", "#9cc7bc", "#c7b36a")
"""Calm colours of stacked parts; order and a table carry the meaning."""


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 3, 5 times powers of ten around ``low`` .. ``high``, both positive."""
    first, last = math.floor(math.log10(low)) - 1, math.ceil(math.log10(high))
    return [float(f"{m}e{power}") for power in range(first, last + 1) for m in (1, 2, 3, 5)]


def faint(colour: str, opacity: float = 0.16) -> str:
    """A transparent version of ``#rrggbb`` for bands."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def bits_colour(bits: float) -> str:
    """Colour of the nearest listed bit-width."""
    return BITS[min(BITS, key=lambda known: abs(known - bits))]


def text_on(colour: str) -> str:
    """Black or white, whichever has the higher contrast on ``colour`` (WCAG 2)."""
    light = luminance(colour)
    return "#000000" if (light + 0.05) / 0.05 >= 1.05 / (light + 0.05) else "#ffffff"


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb``, 0..1 (WCAG 2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours, 1..21 (WCAG 2)."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def template(mode: Mode) -> dict[str, Any]:
    """A plotly template; the page holds one per mode and every figure shares it."""
    axis = {
        "gridcolor": mode.grid,
        "linecolor": mode.grid,
        "zerolinecolor": mode.grid,
        "tickcolor": mode.grid,
        "automargin": True,
        "title": {"standoff": 14, "font": {"size": 13, "color": mode.muted}},
        "tickfont": {"size": 12, "color": mode.muted},
    }
    return {
        "layout": {
            "font": {"family": FONT, "size": 13, "color": mode.ink},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": axis,
            "yaxis": axis,
            "colorway": list(SERIES),
            "hovermode": "closest",
            "hoverlabel": {
                "bgcolor": mode.surface,
                "bordercolor": mode.grid,
                "font": {"family": FONT, "size": 12, "color": mode.ink},
                "align": "left",
                "namelength": -1,
            },
            "legend": {
                "orientation": "h",
                "yanchor": "bottom",
                "y": 1.02,
                "xanchor": "left",
                "x": 0,
                "font": {"size": 12, "color": mode.ink},
                "itemclick": "toggle",
            },
            "margin": {"l": 8, "r": 12, "t": 28, "b": 8},
        },
        "data": {
            "scatter": [
                {"marker": {"line": {"color": mode.ink, "width": 0.75}}, "line": {"width": 2}}
            ],
            "bar": [{"marker": {"line": {"color": mode.surface, "width": 1}}}],
            "heatmap": [{"xgap": 1, "ygap": 1}],
        },
    }
