"""Reasons of failures as text a journal keeps: the message first, then where it was raised."""

from __future__ import annotations

import traceback
from pathlib import PurePath

FRAMES = 8


def told(cause: BaseException, frames: int = FRAMES) -> str:
    """A failure in words: the message on the first line, then one line per frame.

    Args:
        cause: what was raised.
        frames: innermost frames kept.

    Returns:
        Lines ``file.py:12 function``, the innermost last. Of a path the last two parts are kept:
        records of a run hold no absolute paths.
    """
    message = " ".join(str(cause).split()) or type(cause).__name__
    found = traceback.extract_tb(cause.__traceback__)[-frames:]
    places = (f"{_short(item.filename)}:{item.lineno} {item.name}" for item in found)
    return "\n".join([message, *places])


def summary(text: str) -> str:
    """The message of :func:`told`, without the frames."""
    return text.partition("\n")[0] or "no reason recorded"


def _short(filename: str) -> str:
    return "/".join(PurePath(filename).parts[-2:])
