"""How numbers are written: rounded by their interval, with units, never with false digits."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

from search.stats import Z95

MINUS = "\u2212"


def number(value: float, half: float | None = None) -> str:
    """A number rounded to two significant digits of its half-interval, else to three digits."""
    if not math.isfinite(value):
        return "–"
    if half and math.isfinite(half) and half > 0:
        return _signless_zero(f"{value:.{decimals(half)}f}")
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return _signless_zero(f"{value:.{digits}f}") if digits <= 6 else f"{value:.2e}"


def decimals(half: float) -> int:
    """Decimals that show two significant digits of ``half``."""
    return max(0, 1 - math.floor(math.log10(half)))


def interval(value: float, half: float) -> str:
    """``value ± half``, both with two significant digits of ``half``."""
    if not (math.isfinite(half) and half > 0):
        return number(value)
    return f"{number(value, half)} ± {half:.{decimals(half)}f}"


def percent(share: float, half: float | None = None) -> str:
    """A share as percent: ``94.3 %``, with its half-interval ``94.3 ± 1.9 %``."""
    if not math.isfinite(share):
        return "–"
    if half is None:
        return f"{100 * share:.1f} %"
    return f"{100 * share:.1f} ± {100 * half:.1f} %"


def signed(value: float, text: str) -> str:
    """Puts a sign before ``text``, the absolute value already written."""
    return f"+{text}" if value > 0 else f"{MINUS}{text}" if value < 0 else f"±{text}"


def points(difference: float) -> str:
    """Difference of two shares in percentage points: ``−0.4 pt``."""
    return signed(round(100 * difference, 1), f"{abs(100 * difference):.1f} pt")


def change(value: float, base: float) -> str:
    """Relative change against ``base``: ``−43 %``."""
    if not (math.isfinite(value) and math.isfinite(base) and base):
        return "–"
    relative = value / base - 1
    return signed(
        round(100 * relative, 1), f"{abs(100 * relative):.{_change_digits(relative)}f} %"
    )


def _change_digits(relative: float) -> int:
    return 0 if abs(relative) >= 0.1 else 1


def scaled(value: float, units: tuple[str, ...], step: float = 1000.0) -> str:
    """Three digits with the unit that fits: ``91.3 kB``."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    for unit in units:
        if size < step or unit == units[-1]:
            return f"{number(math.copysign(size, value))} {unit}"
        size /= step
    raise AssertionError


def cost(metric: str, value: Any) -> str:
    """A cost with its unit; missing values as a dash."""
    if value is None or not math.isfinite(float(value)):
        return "–"
    name = metric.partition("@")[0]
    if name.endswith("_bytes"):
        return scaled(float(value), ("B", "kB", "MB", "GB"))
    if name == "bops":
        return scaled(float(value), ("BOPs", "kBOPs", "MBOPs", "GBOPs", "TBOPs"))
    unit = {"latency_ms": "ms", "energy_mj": "mJ"}.get(name, "")
    return f"{number(float(value))} {unit}".strip()


def accuracy(entry: Mapping[str, Any]) -> str:
    """Accuracy with the half-width of its 95 % Wilson interval."""
    low, high = accuracy_interval(entry)
    return percent(float(entry["accuracy"]), (high - low) / 2)


def accuracy_interval(entry: Mapping[str, Any]) -> tuple[float, float]:
    """95 % Wilson interval of an entry's accuracy: stored, else computed from its samples."""
    from search.stats import wilson

    if "accuracy_low" in entry:
        return float(entry["accuracy_low"]), float(entry["accuracy_high"])
    return wilson(float(entry["accuracy"]) * int(entry["n"]), int(entry["n"]))


def loss(entry: Mapping[str, Any], name: str) -> str:
    """A loss with its 95 % interval; only cross-entropy carries a standard error."""
    value = float(entry[name])
    if name != "ce":
        return number(value)
    return interval(value, Z95 * float(entry["standard_error"]))


def seconds(value: float) -> str:
    """``3.2 s``, ``1 min 05 s``, ``2 h 03 min``."""
    if not math.isfinite(value):
        return "–"
    if value < 60:
        return f"{number(value)} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def short(text: str, limit: int = 28) -> str:
    """Long names keep both ends: ``stage1.0…conv2``."""
    if len(text) <= limit:
        return text
    head = (limit - 1) // 2
    return f"{text[:head]}…{text[-(limit - 1 - head) :]}"


def plot_text(text: str, limit: int = 28) -> str:
    """A shortened name for a plot; plotly reads markup in text, so it is escaped."""
    return html.escape(short(text, limit), quote=False)


def compact(value: Any, digits: int = 6) -> float | None:
    """A number for JSON with ``digits`` significant digits; NaN and None become null."""
    if value is None or not math.isfinite(float(value)):
        return None
    rounded = float(f"{float(value):.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _signless_zero(text: str) -> str:
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)
