"""The table a study ends with on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from search.stats import BITS_PER_NAT, Z95

ROLES = {
    "accurate": "most accurate",
    "knee": "knee",
    "smallest": "smallest within tolerance",
    "fastest": "fastest within tolerance",
    "only": "only point of the front",
}
COSTS = {
    "size_bytes": "size",
    "latency_ms": "latency",
    "bops": "BOPs",
    "energy_mj": "energy",
    "peak_bytes": "peak memory",
}


def show(front: Mapping[str, Any], quality: str) -> None:
    """Prints :func:`summary` on stdout; on a terminal picked points stand out.

    Lines are never wrapped or cut, so that a pipe gets the same text as a terminal.
    """
    console = Console(soft_wrap=True, highlight=False)
    header, *rows = summary(front, quality).splitlines()
    console.print(Text(header, style="dim"))
    for row in rows:
        console.print(Text(row, style="bold" if row.startswith("*") else ""))


def summary(front: Mapping[str, Any], quality: str) -> str:
    """Rows for fp32, the uniform policies and the picked points, as aligned text.

    Args:
        front: content of ``front.json``.
        quality: name of the quality objective.
    """
    loss = "bits/byte" if _in_bits(front, quality) else quality
    rows: list[tuple[str, ...]] = [
        ("point", "accuracy ±95%", loss, "size", "latency", "w/a bits", "id")
    ]
    rows += [
        _row(front["policies"][policy_id]["tag"], policy_id, front, quality)
        for policy_id in front["baselines"]
    ]
    for cost in front["fronts"]:
        picks = [pick for pick in front["picks"] if pick["cost"] == cost]
        if len({pick["policy_id"] for pick in picks}) == 1:
            picks = [{**picks[0], "role": "only"}]
        rows += [
            _row(f"* {_role(p['role'], cost)}", p["policy_id"], front, quality) for p in picks
        ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in (0, 6) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _in_bits(front: Mapping[str, Any], quality: str) -> bool:
    """Whether the cross-entropy of a task is quoted in bits per byte."""
    return quality == "ce" and front.get("metric") == "bits_per_byte"


def _role(role: str, cost: str) -> str:
    if role == "smallest" and cost == "latency_ms":
        role = "fastest"
    return f"{ROLES[role]} ({COSTS.get(cost, cost)})"


def _row(name: str, policy_id: str, front: Mapping[str, Any], quality: str) -> tuple[str, ...]:
    item = front["policies"][policy_id]
    scores = item.get("test") or item
    half = 100 * (scores["accuracy_high"] - scores["accuracy_low"]) / 2 if "test" in item else 0.0
    loss = scores[quality] if quality != "accuracy" else scores["ce"]
    unit = BITS_PER_NAT if _in_bits(front, quality) else 1.0
    latency = item.get("latency_ms")
    return (
        name,
        f"{100 * scores['accuracy']:.1f} ±{half:.1f}",
        f"{unit * loss:.3f} ±{unit * Z95 * scores['standard_error']:.3f}",
        _bytes(item["size_bytes"]),
        f"{latency:.3f} ms" if latency is not None else "-",
        f"{item['mean_weight_bits']:.1f} / {item['mean_activation_bits']:.1f}",
        policy_id,
    )


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError
