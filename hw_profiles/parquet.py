"""Large latency tables as Parquet: entries are rows, all else is metadata of the schema.

The content is that of the JSON file (``docs/latency_tables.md``), hash included; the fields of a
key are columns named ``key.<field>``.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SUFFIX = ".parquet"
METADATA = b"bitfront"


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a table's plain content atomically; parent directories are created."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rest = {name: value for name, value in content.items() if name != "entries"}
    rows = pa.Table.from_pylist([_flat(entry) for entry in content["entries"]])
    rows = rows.replace_schema_metadata({METADATA: json.dumps(rest).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    try:
        pq.write_table(rows, temporary, compression="zstd")
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read(path: Path) -> dict[str, Any]:
    """Plain content of a table, as the JSON file holds it.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not Parquet, or not of :func:`write`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        try:
            rows = pq.read_table(file)
        except pa.ArrowException as cause:
            raise ValueError("it is not whole Parquet") from cause
    text = (rows.schema.metadata or {}).get(METADATA)
    if text is None:
        raise ValueError("it was not written by bitfront-measure")
    rest: dict[str, Any] = json.loads(text)
    return {**rest, "entries": [_nested(row) for row in _rows(rows)]}


def _rows(table: Any) -> Sequence[Mapping[str, Any]]:
    rows: Sequence[Mapping[str, Any]] = table.to_pylist()
    return rows


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    flat = {f"key.{name}": value for name, value in entry["key"].items()}
    return {**flat, **{name: value for name, value in entry.items() if name != "key"}}


def _nested(row: Mapping[str, Any]) -> dict[str, Any]:
    key = {name.removeprefix("key."): row[name] for name in row if name.startswith("key.")}
    return {"key": key, **{name: row[name] for name in row if not name.startswith("key.")}}
