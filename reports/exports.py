"""Exported policies of a run: what was simulated beside what their files do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports import numbers
from reports.html import Html, el, table_html
from reports.reading import read_json

if TYPE_CHECKING:
    from reports.data import ReportData

FOLDER, RECORD = "exports", "export.json"
COMMAND = "bitfront-export run={run} policy=knee"
COLUMNS = (
    "policy",
    "format, runtime",
    "accuracy in the file",
    "simulated",
    "same answers",
    "bytes (predicted)",
    "latency, measured (predicted)",
    "against fp32",
    "against int8",
)


@dataclass(frozen=True)
class Timed:
    """Measured latency of a file, milliseconds: both sessions' mean, and either's."""

    ms: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The mean with the range of the two sessions."""
        return f"{self.ms:.4f} ms, {self.low:.4f}–{self.high:.4f}"


def read_exports(path: Path) -> tuple[Mapping[str, Any], ...]:
    """Records of a run's exports, by folder name; folders without a record are left out."""
    folders = sorted((path / FOLDER).glob("*/")) if (path / FOLDER).is_dir() else []
    found = (read_json(folder / RECORD) for folder in folders if (folder / RECORD).exists())
    return tuple(record for record in found if record)


def timed(record: Mapping[str, Any]) -> Timed | None:
    """Latency of an export or of one of its references, None when it was not measured."""
    if not record or "measured_ms" not in record:
        return None
    return Timed(record["measured_ms"], record["low_ms"], record["high_ms"])


def exports_card(data: ReportData) -> Html:
    """Every export with its figures, or how to make one."""
    if not data.exports:
        told = el("code", COMMAND.format(run=data.path))
        return el("div", "Nothing was exported yet: ", told, class_="card missing")
    table = table_html(COLUMNS, [_row(data, item) for item in data.exports], "Exported policies")
    scroll = el(
        "div", table, class_="scroll", tabindex="0", role="region", aria_label="Exported policies"
    )
    note = el(
        "p",
        "Each file answered the whole test split in its runtime. Latency is CPU time of one "
        "thread at batch 1, measured in interleaved rounds; the range is that of two sessions.",
        class_="muted small",
    )
    return el("div", scroll, note, class_="card")


def _row(data: ReportData, record: Mapping[str, Any]) -> list[object]:
    deployed, simulated = record.get("deployed"), record.get("simulated")
    latency = record.get("latency") or {}
    found = timed(latency)
    predicted = record.get("predicted", {}).get("latency_ms")
    bytes_ = record.get("predicted_bytes")
    return [
        Html(el("code", str(record["policy_id"]))),
        f"{record['format']}, {record.get('runtime') or 'not executed'}",
        numbers.accuracy({**deployed, "n": record["n"]}) if deployed else "–",
        numbers.percent(simulated["accuracy"]) if simulated else "–",
        numbers.percent(record["agreement"]) if "agreement" in record else "–",
        f"{sum(record['files'].values()):,}" + (f" ({bytes_:,})" if bytes_ else ""),
        found.text + (f" ({predicted:.4f})" if predicted else "") if found else "–",
        _ratio(latency, "fp32"),
        _ratio(latency, "w8a8"),
    ]


def _ratio(latency: Mapping[str, Any], tag: str) -> str:
    other = latency.get("references", {}).get(tag)
    return f"{other['measured_ms'] / latency['measured_ms']:.2f}x as fast" if other else "–"


def measured_claims(data: ReportData) -> Sequence[str]:
    """What was measured of exported files against float and uniform int8, a sentence each.

    A file counts as faster or slower when the ranges of both pairs of sessions are apart by
    more than the noise floor of the session.
    """
    claims = []
    for record in data.exports:
        latency = record.get("latency") or {}
        own = timed(latency)
        if own is None:
            continue
        parts = [
            f"{_verdict(own, other, latency.get('noise', 0.0))} {name}"
            for tag, name in (("fp32", "float32"), ("w8a8", "uniform int8"))
            if (other := timed(latency.get("references", {}).get(tag) or {})) is not None
        ]
        if parts:
            claims.append(
                f"Measured end to end, the exported file of {record['policy_id']} takes "
                f"{numbers.cost('latency_ms', own.ms)}: {', '.join(parts)}."
            )
    return claims


def _verdict(own: Timed, other: Timed, noise: float) -> str:
    margin = noise * other.ms
    if own.high + margin < other.low:
        return f"{other.ms / own.ms:.2f}x as fast as"
    if own.low - margin > other.high:
        return f"{own.ms / other.ms:.2f}x as slow as"
    return "within noise of"
