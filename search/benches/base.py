"""What a benchmark prints: one JSON object per figure, with its bar and an interval."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from search.stats import bootstrap


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        suite: name of the suite.
        case: what was measured, ``space/strategy@N/seedK`` for strategies.
        metric: name of the figure, with its unit where it has one.
        value: median over repeats.
        unit: unit of ``value``; ``"ratio"`` and ``"share"`` for pure numbers.
        bar: the figure asked for, or None.
        better: ``"lower"`` or ``"higher"``.
        n: number of repeats behind ``value``.
        interval: 95 % bootstrap interval of the median.
    """

    suite: str
    case: str
    metric: str
    value: float
    unit: str
    bar: float | None
    better: str
    n: int
    interval: tuple[float, float]

    def to_json(self) -> str:
        """One line of JSON; NaN is written as null."""
        data = asdict(self)
        data["interval"] = [_finite(end) for end in self.interval]
        data["value"] = _finite(self.value)
        return json.dumps(data)

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without a bar."""
        if self.bar is None:
            return None
        return self.value <= self.bar if self.better == "lower" else self.value >= self.bar


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def figure(
    suite: str,
    case: str,
    metric: str,
    values: Sequence[float],
    unit: str,
    *,
    bar: float | None = None,
    better: str = "lower",
) -> Figure:
    """Median and bootstrap interval of repeated measurements."""
    data = np.asarray(values, dtype=np.float64)
    interval = bootstrap(data, np.random.default_rng(0))
    return Figure(
        suite, case, metric, float(np.median(data)), unit, bar, better, len(data), interval
    )


def interleaved(
    cases: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], int]
) -> np.ndarray:
    """Times every case once per round, in random order; ``float[rounds, cases]`` seconds.

    Args:
        cases: what to time; each is called twice before the first round.
        rounds: repetitions.
        clock: nanosecond clock, for example ``time.thread_time_ns``.
    """
    for case in cases:
        case()
        case()
    rng = np.random.default_rng(0)
    seconds = np.empty((rounds, len(cases)))
    for row in range(rounds):
        for index in rng.permutation(len(cases)):
            begun = clock()
            cases[index]()
            seconds[row, index] = (clock() - begun) / 1e9
    return seconds
