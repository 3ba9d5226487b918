"""Reading the files of a run directory: schema versions are checked, torn files are told apart.

A newer schema is refused with the fix; a missing optional file is None.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw_profiles.profile import SCHEMA_VERSION as PROFILE_VERSION
from quant.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
NEWEST = {"profile.json": PROFILE_VERSION}
"""Newest schema of files that count their own versions."""
"""Newest version of every kind of file this reader understands."""


def read_json(path: Path) -> dict[str, Any] | None:
    """A versioned JSON file, or None when it is not there.

    Raises:
        DataError: not whole JSON, not an object, or of a newer schema.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as cause:
        raise DataError(
            f"{path.name} is not whole JSON: {cause}",
            where=path.name,
            fix="restore the file, or run the same search command again: it resumes",
        ) from cause
    if not isinstance(data, dict):
        raise DataError(f"{path.name} is not a JSON object", where=path.name)
    _require_version(data.get("schema_version", 1), path)
    return data


def read_table(path: Path) -> pd.DataFrame | None:
    """A Parquet file, or None when it is not there.

    Raises:
        DataError: damaged, or of a newer schema.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return None
    try:
        arrow = pq.read_table(path)
    except (pa.ArrowException, OSError) as cause:
        raise DataError(
            f"{path.name} cannot be read: {cause}",
            where=path.name,
            fix="delete the file and run the same search command again: it is rebuilt",
        ) from cause
    metadata = arrow.schema.metadata or {}
    _require_version(int(metadata.get(b"bitfront.schema_version", b"1")), path)
    frame: pd.DataFrame = arrow.to_pandas()
    return frame


def read_lines(path: Path) -> tuple[str, ...]:
    """Lines of a text file; none when it is not there."""
    try:
        return tuple(path.read_text(encoding="utf-8", errors="replace").splitlines())
    except FileNotFoundError:
        return ()


def is_torn(path: Path) -> bool:
    """True when a journal's last line has no end: its writer was stopped in the middle."""
    raw = path.read_bytes()
    return bool(raw) and not raw.endswith(b"\n")


def _require_version(version: Any, path: Path) -> None:
    newest = NEWEST.get(path.name, SCHEMA_VERSION)
    if not isinstance(version, int) or version > newest:
        raise DataError(
            f"{path.name} has schema version {version}",
            where=path.name,
            expected=f"at most {newest}",
            fix="upgrade bitfront to read this run",
        )
