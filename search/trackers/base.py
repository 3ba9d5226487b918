"""What a tracker gets, and how it is run: after the records are on disk, never instead of them."""

from __future__ import annotations

import importlib.util
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from quant.errors import UsageError
from search.objectives import objective
from search.progress import say
from search.records import decode_codes
from spaces.space import SearchSpace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """A study as trackers see it.

    Attributes:
        study: its name.
        run_dir: its directory.
        space: layers and choices, to name what a candidate is.
        table: content of ``trials.parquet``.
        objectives: quality first, then costs; columns of ``table``.
        manifest: content of ``manifest.json``.
    """

    study: str
    run_dir: Path
    space: SearchSpace
    table: pd.DataFrame
    objectives: tuple[str, ...]
    manifest: Mapping[str, Any]

    def trials(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """``<strategy>-<seed>`` and its candidates in their order."""
        for (strategy, seed), rows in self.table.groupby(["strategy", "seed"], sort=True):
            yield f"{strategy}-{seed}", rows.sort_values("seq")

    def choices(self, codes: str) -> dict[str, str]:
        """Group name to choice text of a row's ``codes``."""
        return {
            group.name: group.all_choices[code].text
            for group, code in zip(self.space.groups, decode_codes(codes), strict=True)
        }

    def maximised(self) -> list[bool]:
        """Whether larger is better, for every objective."""
        return [objective(name).maximise for name in self.objectives]


class Tracker(ABC):
    """Writes a study somewhere else. Writing the same study again adds nothing twice."""

    needs: tuple[str, ...] = ()
    """Modules that must be there; they come with the extra of the tracker's name."""

    @abstractmethod
    def write(self, record: Record) -> str:
        """Writes all candidates; returns where, for people."""

    def check(self, name: str) -> None:
        """Refuses a tracker whose package is missing, before time is spent.

        Raises:
            UsageError: names the extra to install.
        """
        missing = [module for module in self.needs if importlib.util.find_spec(module) is None]
        if missing:
            raise UsageError(
                f"tracker '{name}' needs {', '.join(missing)}, which is not installed",
                where=f"tracker.{name}",
                fix=f"pip install 'bitfront[{name}]', or leave tracker={name} out",
            )


def track(trackers: Mapping[str, Tracker], record: Record) -> None:
    """Runs all trackers; what one of them cannot do is a warning, the study is on disk already."""
    for name, tracker in trackers.items():
        begun = time.monotonic()
        try:
            place = tracker.write(record)
        except Exception as cause:
            say(f"warning: tracker {name}: {type(cause).__name__}: {first_line(str(cause))}")
            log.warning("tracker %s", name, exc_info=cause)
            continue
        seconds = time.monotonic() - begun
        say(f"tracker {name}: {len(record.table)} candidates -> {place} ({seconds:.1f} s)")


def first_line(text: str) -> str:
    """The first line that says something."""
    lines: Sequence[str] = [line for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "no message"
