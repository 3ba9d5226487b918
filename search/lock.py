"""One process per run directory, on one machine or on storage that several share."""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from quant.errors import DataError

NAME = ".lock"
HALF = re.compile(r"\.(seen-\w+|[^.].*\.(json|yaml|parquet|npz|html|md|csv)\.\w+)")
"""Names that :mod:`search.files` and this module write to before they rename."""
BEAT_S, STALE_S = 30.0, 300.0
"""A holder touches its lock this often; one of another host is dead after so long without."""


@contextmanager
def lock(run_dir: Path) -> Iterator[None]:
    """Holds the run directory for this process; a lock of a dead process is taken over.

    On this host a holder is dead when no process has its id and start time; on another host when
    it has not touched its lock for five minutes of the storage's own clock.

    Raises:
        DataError: another live process holds it.
    """
    path = run_dir / NAME
    _take(path)
    _remove_halves(run_dir)
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, ended), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        path.unlink(missing_ok=True)


def _take(path: Path) -> None:
    """Creates the lock; making a hard link is atomic on network storage too."""
    own = _Draft(path)
    try:
        for _ in range(100):
            try:
                os.link(own.path, path)
                return
            except FileExistsError:
                holder = _read(path)
                if _is_alive(holder, path, own):
                    raise _in_use(path, holder) from None
                _discard(path, holder)
    finally:
        own.path.unlink(missing_ok=True)
    raise DataError("the run directory cannot be locked", where=str(path.parent))


def _discard(path: Path, holder: Mapping[str, Any]) -> None:
    """Removes a dead holder's lock, unless another process was quicker and holds it now."""
    grave = path.with_name(f"{NAME}.dead-{os.getpid()}")
    try:
        path.rename(grave)
    except FileNotFoundError:
        return
    if _read(grave) != holder:
        with suppress(FileExistsError):
            os.link(grave, path)
    grave.unlink()


class _Draft:
    """This process's lock before it has the lock's name."""

    def __init__(self, path: Path) -> None:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{NAME}.")
        with os.fdopen(handle, "w") as file:
            json.dump(_self(), file)
        self.path = Path(name)

    def now(self) -> float:
        """The time of the storage, which may differ from this host's."""
        self.path.touch()
        return self.path.stat().st_mtime


def _self() -> dict[str, Any]:
    own = psutil.Process()
    return {"pid": own.pid, "host": platform.node(), "started": own.create_time()}


def _read(path: Path) -> Mapping[str, Any]:
    """Who holds it; empty when that cannot be read."""
    try:
        data = json.loads(path.read_text())
        return data if isinstance(data, dict) and {"pid", "host", "started"} <= set(data) else {}
    except (OSError, ValueError):
        return {}


def _is_alive(holder: Mapping[str, Any], path: Path, own: _Draft) -> bool:
    if not holder or (holder["host"] == platform.node() and holder["pid"] == os.getpid()):
        return False
    if holder["host"] != platform.node():
        try:
            return bool(own.now() - path.stat().st_mtime < STALE_S)
        except FileNotFoundError:
            return False
    try:
        # Ids are used again: a process that started at another time is not the holder.
        return bool(abs(psutil.Process(holder["pid"]).create_time() - holder["started"]) < 1.0)
    except psutil.Error:
        return False


def _in_use(path: Path, holder: Mapping[str, Any]) -> DataError:
    return DataError(
        f"the run directory is in use by process {holder['pid']} on {holder['host']}",
        where=str(path.parent),
        fix="wait for it to end, or choose another study=NAME",
    )


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        try:
            os.utime(path)
        except OSError:
            return


def _remove_halves(run_dir: Path) -> None:
    """Removes temporary files of writers that were killed before they could rename them."""
    for path in run_dir.rglob(".*"):
        if HALF.fullmatch(path.name):
            path.unlink(missing_ok=True)
