"""The model card of an export: what it is, what was measured, and how to make it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from search.exporting.check import summary


def model_card(record: Mapping[str, Any]) -> str:
    """Markdown text of an export's record (``export.json``)."""
    roles = f" ({', '.join(record['roles'])})" if record["roles"] else ""
    lines = [
        f"# {record['task']['name']}, policy {record['policy_id']}{roles}",
        "",
        f"{record['task']['title']}. Mean weight bits {record['mean_weight_bits']:.2f}, mean "
        f"activation bits {record['mean_activation_bits']:.2f}.",
        "",
        "```",
        *summary(record),
        "```",
        "",
        "| layer | choice | runs as | |",
        "|---|---|---|---|",
        *(_row(name, layer) for name, layer in record["layers"].items()),
        "",
        f"Choices: {_counts(record['layers'])}.",
        "",
        "## Provenance",
        "",
        f"- Weights `{record['task']['weights_hash']}`, data `{record['task']['data_hash']}`, "
        f"method `{record['method']}`.",
        f"- Searched with `{record['search_command']}`.",
        f"- Exported with `{record['command']}` on {record['created']}, {record['device']}.",
        "- Accuracy is on the test split, 95 % Wilson interval. Latency is CPU time of one "
        "thread, batch 1, the 20th percentile over interleaved rounds; the range is that of two "
        "sessions of the same file.",
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, layer: Mapping[str, str]) -> str:
    note = f"storage only: {layer['storage_only']}" if "storage_only" in layer else ""
    return f"| {name} | {layer['choice']} | {layer.get('runs_as', '')} | {note} |"


def _counts(layers: Mapping[str, Mapping[str, str]]) -> str:
    counts = Counter(layer["choice"] for layer in layers.values())
    return ", ".join(f"{count} x {choice}" for choice, count in counts.most_common())
