"""Progress for people: a live line on a terminal, a plain line every 30 s elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

PLAIN_EVERY_S = 30.0
LIVE_EVERY_S = 0.5


def say(message: str) -> None:
    """Prints one line on stderr."""
    print(message, file=sys.stderr, flush=True)


class Bar:
    """A one-line progress display; on a pipe it prints plain lines now and then.

    Call it as ``bar(done, total, message)``; that is the callback tasks and tables take.
    """

    def __init__(self, title: str, stream: TextIO | None = None) -> None:
        self._title = title
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty() and "NO_COLOR" not in os.environ
        self._shown = time.monotonic() if not self._live else 0.0
        self._started = time.monotonic()

    def __call__(self, done: float, total: float, message: str = "") -> None:
        """Shows ``done`` of ``total``."""
        now = time.monotonic()
        wait = LIVE_EVERY_S if self._live else PLAIN_EVERY_S
        if now - self._shown < wait and done < total:
            return
        self._shown = now
        share = done / total if total else 1.0
        elapsed = now - self._started
        left = f", {elapsed / share - elapsed:.0f} s left" if 0 < share < 1 else ""
        text = f"{self._title}: {done:g}/{total:g} {message} ({elapsed:.0f} s{left})"
        if self._live:
            filled = int(24 * share)
            self._stream.write(f"\r\x1b[2K[{'#' * filled}{'.' * (24 - filled)}] {text}")
            if done >= total:
                self._stream.write("\n")
        else:
            self._stream.write(text + "\n")
        self._stream.flush()


@contextmanager
def repeated(act: Callable[[], None], ended: threading.Event, every_s: float) -> Iterator[None]:
    """Calls ``act`` now and then while the body runs, and once after it.

    Args:
        act: called from a thread of its own, never twice at once.
        ended: set when the body has ended, before the last call.
        every_s: seconds between calls.
    """

    def work() -> None:
        while not ended.wait(every_s):
            act()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        act()


Progress = Callable[[float, float, str], None]
