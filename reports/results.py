"""The results table of a run and its exports: ``python -m reports.results RUN``.

One row per exported policy, all figures from files: accuracy and latency from the exported file
in its runtime, prediction and size from the run, search time and seeds from its manifest.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from quant.errors import DataError
from reports.exports import read_exports
from reports.reading import read_json

COLUMNS = (
    "policy",
    "mean bits w / a",
    "accuracy in ONNX Runtime",
    "simulated",
    "latency predicted",
    "latency **measured**",
    "weights",
    "file",
)


def results_table(run: Path) -> str:
    """Markdown of the exported ONNX files of a run.

    Raises:
        DataError: nothing was exported.
    """
    manifest = read_json(run / "manifest.json") or {}
    found = [r for r in read_exports(run) if r["format"] == "onnx" and "deployed" in r]
    if not found:
        raise DataError(
            "no ONNX file was exported",
            where=str(run),
            fix=f"bitfront-export run={run} policy=front",
        )
    rows = [_row(record) for record in sorted(found, key=lambda r: -r["mean_weight_bits"])]
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{text}\n\n{_footer(manifest, found[0])}\n"


def _row(record: Mapping[str, Any]) -> Sequence[str]:
    deployed, latency = record["deployed"], record.get("latency")
    half = 50 * (deployed["accuracy_high"] - deployed["accuracy_low"])
    predicted = record["predicted"]
    roles = list(dict.fromkeys(role.partition(" (")[0] for role in record["roles"]))
    name = ", ".join(roles) or "front"
    return (
        f"{name} `{record['policy_id']}`",
        f"{record['mean_weight_bits']:.1f} / {record['mean_activation_bits']:.1f}",
        f"{100 * deployed['accuracy']:.1f} ± {half:.1f} %",
        f"{100 * record['simulated']['accuracy']:.1f} %",
        f"{predicted['latency_ms']:.3f} ms" if "latency_ms" in predicted else "-",
        f"{latency['low_ms']:.3f}–{latency['high_ms']:.3f} ms" if latency else "-",
        f"{predicted['size_bytes'] / 1e3:.1f} kB" if "size_bytes" in predicted else "-",
        f"{sum(record['files'].values()) / 1e3:.0f} kB",
    )


def _footer(manifest: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    spent = _minutes(manifest)
    seeds = len(manifest.get("seeds", ()))
    return (
        f"{record['n']} test samples, 95 % Wilson intervals; latency is CPU time of one thread, "
        f"batch 1, both sessions; {record['device']}, {record['runtime']}. Searched in {spent} "
        f"with {len(manifest.get('strategies', ()))} strategies, {seeds} "
        f"seed{'s' if seeds != 1 else ''}."
    )


def _minutes(manifest: Mapping[str, Any]) -> str:
    try:
        begin, end = (datetime.fromisoformat(manifest[key]) for key in ("started", "ended"))
    except (KeyError, TypeError, ValueError):
        return "an unknown time"
    seconds = int((end - begin).total_seconds())
    return f"{seconds // 60} min {seconds % 60:02d} s"


if __name__ == "__main__":
    print(results_table(Path(sys.argv[1])), end="")
