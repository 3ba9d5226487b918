"""Writing a run directory: atomic JSON, Parquet and YAML, the lock, status and manifest."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from quant.errors import DataError
from search.records import SCHEMA_VERSION, decode_codes
from spaces.space import SearchSpace

LOGGED = ("quant", "spaces", "hw_profiles", "search", "reports", "ray.tune")
PACKAGES = (
    "torch",
    "numpy",
    "ray",
    "optuna",
    "pulp",
    "hydra-core",
    "pandas",
    "onnxruntime",
    "plotly",
)


def now() -> str:
    """Current time, UTC, to the second; ``SOURCE_DATE_EPOCH`` is honoured."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def write_text(path: Path, text: str) -> None:
    """Writes atomically: readers see the old or the new file, never half of one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101 - mkstemp makes it private
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Writes a versioned JSON file atomically; NaN is refused, it is not JSON."""
    write_text(
        path,
        json.dumps({"schema_version": SCHEMA_VERSION, **data}, indent=1, allow_nan=False) + "\n",
    )


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Writes a Parquet file atomically, with the schema version in its metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    meta = {b"bitfront.schema_version": str(SCHEMA_VERSION).encode()}
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), **meta})
    with _renamed(path) as temporary:
        pq.write_table(arrow, temporary)


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes a compressed ``.npz`` of plain arrays atomically, with the schema version in it.

    Raises:
        ValueError: an array holds Python objects instead of numbers or text.
    """
    if any(array.dtype.hasobject for array in arrays.values()):
        raise ValueError(f"{path.name}: arrays of objects are not written")
    with _renamed(path) as temporary, temporary.open("wb") as file:
        plain: dict[str, Any] = {"schema_version": np.array(SCHEMA_VERSION), **arrays}
        np.savez_compressed(file, **plain)


@contextmanager
def _renamed(path: Path) -> Iterator[Path]:
    """A name to write to, moved to ``path`` when the body succeeds and removed when not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_policies(
    run_dir: Path, space: SearchSpace, policies: Mapping[str, Mapping[str, Any]]
) -> None:
    """Writes ``policies/<id>.json`` for the policies of ``front.json``."""
    (run_dir / "policies").mkdir(exist_ok=True)
    for policy_id, item in policies.items():
        policy = space.policy(decode_codes(item["codes"]))
        content = {"policy_id": policy_id, "choices": dict(policy.choices)}
        write_json(run_dir / "policies" / f"{policy_id}.json", content)


def prepare_run_dir(run_dir: Path, resume: str) -> None:
    """Creates the run directory, setting an existing run aside when ``resume`` is ``fresh``.

    Raises:
        DataError: the directory cannot be created or written, or a newer bitfront wrote it.
    """
    if resume != "fresh":
        _refuse_newer(run_dir)
    try:
        if resume == "fresh" and (run_dir / "manifest.json").exists():
            run_dir.rename(_free_name(run_dir))
        (run_dir / "trials").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run_dir):
            pass
    except OSError as cause:
        raise DataError(
            f"the run directory cannot be written: {cause.strerror or cause}",
            where=str(run_dir),
            expected="a directory this user can create and write",
            fix="choose another with run_dir=PATH",
        ) from cause


def _refuse_newer(run_dir: Path) -> None:
    """A run of another schema must not be written over by this one."""
    try:
        data = json.loads((run_dir / "manifest.json").read_text())
        version = data["schema_version"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise DataError(
            f"the run directory has schema version {version}",
            where=str(run_dir),
            expected=f"at most {SCHEMA_VERSION}",
            fix="upgrade bitfront, choose another study=NAME, or resume=fresh to set it aside",
        )


def _free_name(run_dir: Path) -> Path:
    number = 1
    while (candidate := run_dir.with_name(f"{run_dir.name}.{number}")).exists():
        number += 1
    return candidate


class _LogFile(logging.FileHandler):
    """A log on a full disk loses lines; the study's own message says why it ended."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: the default prints a traceback for every line."""


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Appends log records of bitfront's packages to ``path`` while the body runs."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in LOGGED]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        # Tune prints whole tracebacks of lost workers; they belong into the log.
        logger.propagate = not logger.name.startswith("ray")
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
        handler.close()


def set_status(run_dir: Path, state: str, message: str = "", exit_code: int | None = None) -> None:
    """Writes status.json; ``state`` is running, finished, failed or interrupted."""
    write_json(
        run_dir / "status.json",
        {"state": state, "message": message, "updated": now(), "exit_code": exit_code},
    )


def environment() -> dict[str, Any]:
    """Versions and platform for the manifest; no host or user names."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            packages[name] = "missing"
    return {
        "python": platform.python_version(),
        "os": f"{platform.system()}-{platform.release()}",
        "packages": packages,
        "git_commit": git_commit(),
    }


def git_commit() -> str:
    """Commit of the source tree, with ``+`` when it has changes; empty outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return commit + ("+" if changed else "")


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=5
    )
    return done.stdout.strip()
