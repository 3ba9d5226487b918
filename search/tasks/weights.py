"""Files of trained weights, in the user's cache and in the package, each with its record.

Training gives other weights on another processor and under another torch, because sums are taken
in another order there. What the package itself compares (demonstration, tests, figures of the
documentation) therefore starts from weights that come with it: trained once, by the recipe and
the seed of their record, and written by :mod:`search.tasks.ship`. A record is JSON beside the
weights: their SHA-256, what they were made from, and with what.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from quant.errors import DataError

SCHEMA_VERSION = 1
State = dict[str, Tensor]


class DamagedError(Exception):
    """Weights differ from the hash in their record, or one of the two files is missing."""


def write(path: Path, state: Mapping[str, Tensor], origin: Mapping[str, Any]) -> None:
    """Writes weights and then their record, each atomically; a race of two writers ends whole.

    Args:
        path: ``<name>.safetensors``; the record becomes ``<name>.json``.
        state: the model's tensors by name.
        origin: what the weights were made from; plain JSON.
    """
    raw = save({name: tensor.contiguous() for name, tensor in state.items()})
    record = {
        "schema_version": SCHEMA_VERSION,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "origin": dict(origin),
        "trained_with": {
            "torch": torch.__version__.split("+")[0],
            "kernels": torch.backends.cpu.get_cpu_capability(),
        },
    }
    text = json.dumps(record, indent=1) + "\n"
    for target, content in ((path, raw), (record_of(path), text.encode())):
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        temporary.write_bytes(content)
        temporary.replace(target)


def read(path: Path) -> State:
    """Weights that agree with their record.

    Raises:
        FileNotFoundError: there are none.
        DamagedError: they are not those of the record.
    """
    raw = path.read_bytes()
    try:
        wanted = json.loads(record_of(path).read_text())["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise DamagedError(f"{record_of(path).name} cannot be read") from cause
    if hashlib.sha256(raw).hexdigest() != wanted:
        raise DamagedError(f"{path.name} is not what its record says")
    state: State = load(raw)
    return state


def record_of(path: Path) -> Path:
    """Where the record of weights lies."""
    return path.with_suffix(".json")


def shipped_folder() -> Path:
    """Where the package keeps its weights."""
    return Path(str(files("search.tasks") / "shipped"))


def shipped(origin: Mapping[str, Any], folder: Path | None = None) -> State | None:
    """The package's weights of exactly this origin, or None when it has none.

    Raises:
        DataError: it should have them, and they are damaged or missing.
    """
    for record in sorted((folder or shipped_folder()).glob("*.json")):
        if json.loads(record.read_text())["origin"] == origin:
            path = record.with_suffix(".safetensors")
            try:
                return read(path)
            except (DamagedError, FileNotFoundError) as cause:
                raise DataError(
                    f"the trained weights {path.name} of this installation are damaged",
                    where=f"task {origin['task']}",
                    expected="the file that came with bitfront",
                    fix="install bitfront again, or train here: task.train=true",
                ) from cause
    return None
