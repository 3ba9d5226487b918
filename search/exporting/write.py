"""Exports policies of a run into its ``exports`` folder, each whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_profiles.device import this_device
from quant.errors import UsageError, unknown
from search.exporting.artefact import FORMATS, WRITERS, Artefact, choices_of
from search.exporting.card import model_card
from search.exporting.check import compare, measure
from search.exporting.graph import check_executable
from search.exporting.run import Run, roles_of
from search.files import now, write_json
from search.progress import say
from search.table import mean_bits

FOLDER, RECORD, CARD = "exports", "export.json", "card.md"


@dataclass(frozen=True)
class Options:
    """How to export.

    Attributes:
        format: one of :data:`FORMATS`.
        out: folder to write into; the run's own ``exports`` when None. One folder per policy.
        coded: Huffman-coded weights (``torch`` only).
        command: the command line, for the record.
        measure: time the files end to end.
    """

    format: str = "onnx"
    out: Path | None = None
    coded: bool = False
    command: str = ""
    measure: bool = True


def export(run: Run, names: Sequence[str], options: Options) -> list[dict[str, Any]]:
    """Writes and judges the named policies; returns their records.

    Raises:
        UsageError: an unknown format, a folder that exists, or a policy the format cannot hold;
            nothing was written.
    """
    if options.format not in FORMATS:
        raise unknown("format", options.format, FORMATS, where="format")
    home = options.out or run.path / FOLDER
    policies = {name: run.policy(name) for name in names}
    folders = {name: home / f"{name}-{options.format}" for name in names}
    for folder in folders.values():
        if folder.exists():
            raise UsageError(
                f"'{folder}' exists",
                where="bitfront-export",
                expected="a new folder: exports are never overwritten",
                fix="remove it, or set out=FOLDER",
            )
    if options.format in ("onnx", "openvino"):
        for policy in policies.values():
            check_executable(run.space.layers, choices_of(policy))
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".part-") as name:
        return _export(run, policies, folders, options, Path(name))


def _export(
    run: Run,
    policies: Mapping[str, Any],
    folders: Mapping[str, Path],
    options: Options,
    scratch: Path,
) -> list[dict[str, Any]]:
    """Everything is made in ``scratch`` and moved when it is whole."""
    artefacts: dict[str, Artefact] = {}
    records: dict[str, dict[str, Any]] = {}
    for index, (name, policy) in enumerate(policies.items(), start=1):
        started = time.perf_counter()
        say(f"exporting {name} ({index}/{len(policies)}) as {options.format}")
        folder = scratch / name
        folder.mkdir()
        made = WRITERS[options.format](run, policy, folder, coded=options.coded)
        artefacts[name] = made
        records[name] = {
            **_facts(run, name, made, options),
            **compare(run, policy, made),
            "seconds": round(time.perf_counter() - started, 2),
        }
    started = time.perf_counter()
    times = measure(run, artefacts) if options.measure else {}
    share = (time.perf_counter() - started) / len(records)
    for name, record in records.items():
        record["seconds"] = round(record["seconds"] + share, 2)
        if name in times:
            record["latency"] = times[name]
        write_json(scratch / name / RECORD, record)
        (scratch / name / CARD).write_text(model_card(record))
    for name, folder in folders.items():
        shutil.move(scratch / name, folder)
    return list(records.values())


def _facts(run: Run, name: str, made: Artefact, options: Options) -> dict[str, Any]:
    entry = run.front["policies"].get(name, {})
    policy = run.policy(name)
    codes = run.space.codes(policy)[None, :]
    weight, activation = mean_bits(run.space, codes)
    predicted = {k: v for k, v in entry.items() if k in ("size_bytes", "coded_bytes")}
    # Another runtime's time is not what the study's table predicts.
    if made.format == "onnx" and "latency_ms" in entry:
        predicted["latency_ms"] = entry["latency_ms"]
    layers = {layer: {"choice": policy[layer].text} for layer in policy}
    return {
        "policy_id": name,
        "roles": list(roles_of(run, name)),
        "format": made.format,
        "runtime": made.runtime,
        "created": now(),
        "device": this_device().name,
        "command": options.command,
        "search_command": run.manifest.get("command", ""),
        "method": run.settings.method.name,
        "task": {
            "name": run.task.name,
            "title": run.task.title,
            "weights_hash": run.task.weights_hash,
            "data_hash": run.task.data_hash,
        },
        "codes": entry.get("codes", ""),
        "mean_weight_bits": float(weight[0]),
        "mean_activation_bits": float(activation[0]),
        "layers": {layer: {**layers[layer], **made.runs_as.get(layer, {})} for layer in layers},
        "files": dict(made.files),
        "predicted_bytes": made.predicted_bytes,
        "predicted": predicted,
    }
