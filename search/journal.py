"""Append-only journal of one incarnation of a trial: on disk before the next candidate."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from search.records import JournalLine

FSYNC_EVERY_S = 1.0


class JournalWriter:
    """Writes lines to a new file; flushed per line, synced about once a second.

    A flushed line survives the death of this process; a synced one survives loss of power.

    Args:
        path: file to create. It must not exist: every incarnation has its own.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("xb")
        self._synced_at = time.monotonic()

    def append(self, line: JournalLine) -> None:
        """Writes one line; returns when the operating system has it."""
        self._file.write(line.to_json().encode() + b"\n")
        self._file.flush()
        if time.monotonic() - self._synced_at >= FSYNC_EVERY_S:
            self._sync()

    def close(self) -> None:
        """Syncs and closes; an empty journal is removed."""
        if self._file.closed:
            return
        self._sync()
        empty = self._file.tell() == 0
        self._file.close()
        if empty:
            Path(self._file.name).unlink(missing_ok=True)

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
