"""The latency table of a run, op by op: what it holds, and how far it is off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from reports import numbers
from reports.data import ReportData
from reports.html import Html, el, table_html
from search.latency_figures import op_figures

OP_COLUMNS = (
    *("op", "policies", "share of the time", "a node (µs)"),
    *("absolute error", "bias"),
)
OP_NOTE = (
    "Nodes timed alone, as the table holds them, against their time inside whole networks by the "
    "runtime's profiler, before any fit. The profiler counts whole microseconds and costs some "
    "itself, which is taken off equally from every node: read nothing into nodes of about one."
)
COLUMNS = ("op", "entries", "kernels run", "origin", "spread, median", "spread, largest")


def kernels_card(data: ReportData) -> Html | None:
    """A row per op of ``profile.json``: kernels seen, provenance and spread; None without one."""
    entries = (data.profile or {}).get("entries")
    if not entries:
        return None
    ops = sorted({str(item["key"]["op"]) for item in entries})
    rows = [(op, *_row([item for item in entries if item["key"]["op"] == op])) for op in ops]
    table = table_html(COLUMNS, rows, "Entries of the latency table by op")
    scroll = el(
        "div", table, class_="scroll", tabindex="0", role="region", aria_label="Entries by op"
    )
    return el("div", el("h3", "The latency table, op by op"), scroll, class_="card")


def ops_card(data: ReportData) -> Html | None:
    """A row per op type that was timed alone and inside networks; None without any."""
    found = () if data.latency_ops is None else op_figures(data.latency_ops)
    if not found:
        return None
    rows = [
        (
            item.op,
            str(item.policies),
            numbers.percent(item.share),
            f"{item.node_us:.1f}",
            numbers.percent(item.error),
            f"{100 * item.bias:+.1f} %",
        )
        for item in found
    ]
    table = table_html(OP_COLUMNS, rows, "Error of the table by op type")
    scroll = el(
        "div", table, class_="scroll", tabindex="0", role="region", aria_label="Error by op type"
    )
    note = el("p", OP_NOTE, class_="muted small")
    return el("div", el("h3", "Error by op type"), note, scroll, class_="card")


def _row(entries: list[Mapping[str, Any]]) -> tuple[str, ...]:
    spreads = np.array([float(item.get("spread", 0.0)) for item in entries])
    kernels = Counter(_kernels(item) for item in entries)
    return (
        str(len(entries)),
        _listed(kernels.items()),
        _listed(Counter(_origin(item) for item in entries).items()),
        numbers.percent(float(np.median(spreads))),
        numbers.percent(float(spreads.max())),
    )


def _kernels(item: Mapping[str, Any]) -> str:
    return " + ".join(item.get("kernel_ops") or ()) or "not recorded"


def _origin(item: Mapping[str, Any]) -> str:
    provenance = str(item.get("provenance", "measured"))
    return provenance if item.get("genuine", True) else f"{provenance}, storage only"


def _listed(counts: Iterable[tuple[str, int]]) -> str:
    ordered = sorted(counts, key=lambda pair: (-pair[1], pair[0]))
    return "; ".join(f"{name} ({count})" for name, count in ordered)
