"""What a running study shows: a table of its trials on a terminal, plain lines elsewhere.

Everything is read from the journals, so it is the same under every runner, and a study that
nobody watches does nothing for it.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from hw_profiles.cost import CostModel
from search.fronts import Reference, reference_for
from search.objectives import objective
from search.pareto import normalised_hypervolume
from search.progress import LIVE_EVERY_S, Bar, repeated
from search.records import JournalLine
from spaces.space import SearchSpace

BASELINE, FLOAT = "baseline-0", "fp32"


@dataclass
class Trial:
    """What the journals say of one trial so far.

    Attributes:
        keys: evaluations seen, by identity.
        points: ``(loss, cost)`` of each that succeeded.
        failed: how many did not.
        since: ``(clock, evaluations)`` when it was first seen in this process.
    """

    keys: set[str] = field(default_factory=set)
    points: list[tuple[float, float]] = field(default_factory=list)
    failed: int = 0
    since: tuple[float, int] | None = None

    def left_s(self, budget: int, now: float) -> float:
        """Seconds to the end of the budget at the pace so far; NaN while there is none."""
        if self.since is None or len(self.keys) <= self.since[1]:
            return math.nan
        pace = (now - self.since[0]) / (len(self.keys) - self.since[1])
        return max(0.0, pace * (budget - len(self.keys)))


class Board:
    """Trials of a study as their journals grow.

    Args:
        space, costs: to place candidates.
        quality, metric: the front that hypervolumes are of.
        classes: of the task, for the reference point.
        budgets: evaluations each trial may make, by ``<strategy>-<seed>``.

    Attributes:
        over: set when the trials have ended; a strategy may end before its budget.
    """

    over = False

    def __init__(
        self,
        space: SearchSpace,
        costs: CostModel,
        quality: str,
        metric: str,
        classes: int,
        budgets: Mapping[str, int],
    ) -> None:
        self._space, self._costs, self._classes = space, costs, classes
        self.quality, self.metric, self.budgets = quality, metric, budgets
        self.trials = {name: Trial() for name in budgets}
        self._read: dict[Path, int] = {}
        self._reference: Reference | None = None

    @property
    def done(self) -> int:
        """Distinct candidates of all trials."""
        return sum(len(trial.keys) for trial in self.trials.values())

    @property
    def total(self) -> int:
        """Candidates when every budget is used up."""
        return sum(self.budgets.values())

    def update(self, trials_dir: Path, now: float) -> None:
        """Reads what was appended since the last call; a line being written waits."""
        for path in sorted(trials_dir.glob("*.jsonl")):
            try:
                with path.open("rb") as file:
                    file.seek(self._read.get(path, 0))
                    whole, _, _ = file.read().rpartition(b"\n")
            except FileNotFoundError:  # an empty journal is removed when its trial ends
                continue
            self._read[path] = self._read.get(path, 0) + len(whole) + (1 if whole else 0)
            for raw in whole.split(b"\n"):
                if raw:
                    self._add(raw)
        for trial in self.trials.values():
            if trial.keys and trial.since is None:
                trial.since = (now, len(trial.keys))

    def volume(self, trial: Trial) -> float:
        """Share of the reference box its points cover; NaN before float32 is evaluated."""
        if self._reference is None or not trial.points:
            return math.nan
        ideal, point = np.array(self._reference.ideal), np.array(self._reference.point)
        return normalised_hypervolume(np.array(trial.points), ideal, point)

    def best(self, trial: Trial) -> float:
        """Best quality as people read it; NaN without one."""
        if not trial.points:
            return math.nan
        return objective(self.quality).to_min(min(loss for loss, _ in trial.points))

    def _add(self, raw: bytes) -> None:
        try:
            line = JournalLine.from_json(raw.decode())
        except ValueError:
            return
        name = f"{line.strategy}-{line.seed}"
        trial = self.trials.get(name)
        if trial is None or line.result.quality_key in trial.keys:
            return
        trial.keys.add(line.result.quality_key)
        if not line.result.ok:
            trial.failed += 1
            return
        loss = objective(self.quality).to_min(getattr(line.result, self.quality))
        cost = self._costs.costs(np.array([line.codes], dtype=np.int64))[self.metric][0]
        if name == BASELINE and line.tag == FLOAT:
            self._reference = reference_for(
                self._space, self._costs, self.metric, self.quality, loss, self._classes
            )
        trial.points.append((loss, float(cost)))

    def table(self, now: float) -> Table:
        """One row per trial, for a terminal."""
        titles = ("trial", "evaluations", f"best {self.quality}", "hypervolume", "left")
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in titles:
            table.add_column(title, justify="left" if title == "trial" else "right")
        for name, trial in self.trials.items():
            budget = self.budgets[name]
            failed = f" ({trial.failed} failed)" if trial.failed else ""
            left = number(trial.left_s(budget, now), "{:.0f} s")
            if self.over or len(trial.keys) >= budget:
                left = "done"
            table.add_row(
                name,
                f"{len(trial.keys)}/{budget}{failed}",
                number(self.best(trial), "{:.4f}"),
                number(self.volume(trial), "{:.3f}"),
                left,
                style="" if trial.keys else "dim",
            )
        return table


def number(value: float, form: str) -> str:
    """A number in a form, or a dash for NaN."""
    return "-" if math.isnan(value) else form.format(value)


@contextmanager
def follow(board: Board, trials_dir: Path, stream: TextIO | None = None) -> Iterator[None]:
    """Shows the board while the body runs: live on a terminal, a line every 30 s elsewhere."""
    stream = stream or sys.stderr
    ended = threading.Event()
    if stream.isatty() and "NO_COLOR" not in os.environ:
        console = Console(file=stream)
        with Live(console=console, auto_refresh=False, transient=False) as live:

            def draw() -> None:
                now, board.over = time.monotonic(), ended.is_set()
                board.update(trials_dir, now)
                live.update(board.table(now), refresh=True)

            with repeated(draw, ended, LIVE_EVERY_S):
                yield
        return
    bar = Bar("search", stream)

    def tell() -> None:
        board.update(trials_dir, time.monotonic())
        finished = ended.is_set()
        total = board.done if finished else max(board.total, board.done + 1)
        bar(board.done, max(total, 1), "candidates")

    with repeated(tell, ended, LIVE_EVERY_S):
        yield
