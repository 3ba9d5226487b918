"""When every worker of a run evaluated what, on one axis of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports.data import ReportData
from search.pareto import Floats

LONGEST_PAUSE_S = 60.0
"""Longer times in which no worker did anything are cut out: a run resumed a day later."""
DAY_S = 86400.0


@dataclass(frozen=True)
class Worker:
    """One attempt at one trial: a process of its own.

    Attributes:
        name: ``<strategy>-<seed>``, from the second attempt on with its number.
        strategy, seed, incarnation: which trial and attempt.
        start: when it began, seconds.
        end: when each candidate was done, rising, ``float[n]`` seconds.
        took: how long each evaluation took, ``float[n]`` seconds.
        failed: candidates without qualities, ``bool[n]``.
    """

    name: str
    strategy: str
    seed: int
    incarnation: str
    start: float
    end: Floats
    took: Floats
    failed: npt.NDArray[np.bool_]

    @property
    def seconds(self) -> float:
        """From its begin to its last candidate."""
        return float(self.end[-1] - self.start)

    @property
    def busy(self) -> float:
        """Share of its time spent in evaluations, 0..1."""
        return min(1.0, float(self.took.sum()) / self.seconds) if self.seconds > 0 else 1.0


def workers(data: ReportData) -> tuple[tuple[Worker, ...], bool]:
    """Workers of a run, and whether they share one clock.

    Journals that do not tell the time of day give every worker its own zero.
    """
    stamped = "unix_s" in data.table and bool(data.table["unix_s"].notna().all())
    parts = list(_attempts(data))
    if not stamped:
        return tuple(
            _worker(name, rows, rows["wall_s"].to_numpy(dtype=np.float64), 0.0)
            for name, rows in parts
        ), False
    begins = [_begin(rows) for _, rows in parts]
    ends = [rows["unix_s"].to_numpy(dtype=np.float64) for _, rows in parts]
    clock = without_pauses([(b, e[-1]) for b, e in zip(begins, ends, strict=True)])
    return tuple(
        _worker(name, rows, clock(end), float(clock(np.array([begin]))[0]))
        for (name, rows), begin, end in zip(parts, begins, ends, strict=True)
    ), True


def without_pauses(spans: list[tuple[float, float]]) -> Clock:
    """A clock that starts with the first span and stands still in long gaps between spans.

    Args:
        spans: ``(begin, end)`` of every worker.
    """
    marks, lost = [min(begin for begin, _ in spans)], [min(begin for begin, _ in spans)]
    reached = marks[0]
    for begin, end in sorted(spans):
        if begin - reached > LONGEST_PAUSE_S:
            marks.append(begin)
            lost.append(lost[-1] + begin - reached)
        reached = max(reached, end)
    return Clock(np.array(marks), np.array(lost))


@dataclass(frozen=True)
class Clock:
    """Seconds of work since the start.

    Attributes:
        marks: times from which on more is subtracted, rising.
        lost: what is subtracted from then on.
    """

    marks: Floats
    lost: Floats

    def __call__(self, times: Floats) -> Floats:
        """Times of day as seconds of work."""
        which = np.maximum(np.searchsorted(self.marks, times, side="right") - 1, 0)
        moved: Floats = times - self.lost[which]
        return moved


def _attempts(data: ReportData) -> Iterator[tuple[str, pd.DataFrame]]:
    for strategy, seed, rows in data.trials():
        for number, (_, part) in enumerate(rows.groupby("incarnation", sort=True), start=1):
            name = f"{strategy}-{seed}" + (f" ({number})" if number > 1 else "")
            yield name, part


def _begin(rows: pd.DataFrame) -> float:
    """Time of day at which an attempt began.

    Attempts are named by it, in hexadecimal nanoseconds; else the first evaluation tells.
    """
    first = rows.iloc[0]
    begun = float(first["unix_s"] - first["eval_s"])
    try:
        named = int(str(first["incarnation"]), 16) / 1e9
    except ValueError:
        return begun
    return named if 0 <= begun - named < DAY_S else begun


def _worker(name: str, rows: pd.DataFrame, end: Floats, start: float) -> Worker:
    first = rows.iloc[0]
    return Worker(
        name,
        str(first["strategy"]),
        int(first["seed"]),
        str(first["incarnation"]),
        start,
        np.asarray(end, dtype=np.float64),
        rows["eval_s"].to_numpy(dtype=np.float64),
        (rows["status"] != "ok").to_numpy(dtype=np.bool_),
    )
