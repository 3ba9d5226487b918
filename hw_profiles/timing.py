"""How kernels are timed on a machine that is doing other things as well.

Single-threaded CPU clock; all candidates interleaved in a new random order every round; a
reference kernel in every round; blocks of calls long enough for the clock; garbage collection
off while timing. CPU time leaves out the time other processes held the core; the ratio of wall
to CPU time says how much that was.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Clock = Callable[[], int]
Name = TypeVar("Name")

PREEMPTED_RATIO = 1.2
MAX_CALLS = 20_000


@dataclass(frozen=True, slots=True)
class Protocol:
    """Settings of one measurement.

    Attributes:
        rounds: interleaved rounds.
        warmup: calls before the first round, at least 3.
        block_ms: CPU time one block of calls should take, milliseconds.
    """

    rounds: int = 12
    warmup: int = 3
    block_ms: float = 3.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Rounds of one candidate.

    Attributes:
        call_ms: mean CPU time of one call in each round, ``float[rounds]``, milliseconds.
        wall_ratio: wall over CPU time in each round, ``float[rounds]``.
    """

    call_ms: Floats
    wall_ratio: Floats

    def statistic_ms(self, memory_bound: bool) -> float:
        """20th percentile of rounds; the median where lucky bandwidth would win otherwise."""
        return float(np.quantile(self.call_ms, 0.5 if memory_bound else 0.2))

    @property
    def spread(self) -> float:
        """Interquartile range over the median."""
        low, middle, high = np.quantile(self.call_ms, [0.25, 0.5, 0.75])
        return float((high - low) / middle) if middle > 0 else 0.0


def time_interleaved(
    calls: Mapping[Name, Callable[[], object]],
    protocol: Protocol,
    rng: np.random.Generator,
    cpu: Clock = time.thread_time_ns,
    wall: Clock = time.perf_counter_ns,
) -> dict[Name, Timing]:
    """Times all ``calls``, each round in a new random order.

    Args:
        calls: candidates by name; a call runs the kernel once and rotates its own weights.
        protocol: rounds, warm-up and block length.
        rng: order within rounds.
        cpu: nanosecond clock of this thread's CPU time.
        wall: nanosecond clock of real time.
    """
    names = list(calls)
    cpu_ms = np.zeros((len(names), protocol.rounds))
    ratio = np.ones((len(names), protocol.rounds))
    with _no_garbage_collection():
        counts = [_calls_per_block(calls[name], protocol, cpu) for name in names]
        for turn in range(protocol.rounds):
            for i in rng.permutation(len(names)):
                block_cpu, block_wall = _block(calls[names[i]], counts[i], cpu, wall)
                cpu_ms[i, turn] = block_cpu / counts[i] / 1e6
                ratio[i, turn] = block_wall / block_cpu if block_cpu else 1.0
    return {name: Timing(cpu_ms[i], ratio[i]) for i, name in enumerate(names)}


def _calls_per_block(call: Callable[[], object], protocol: Protocol, cpu: Clock) -> int:
    """Warms a candidate up and finds how many calls fill a block."""
    for _ in range(protocol.warmup):
        call()
    start = cpu()
    for _ in range(protocol.warmup):
        call()
    call_ms = max((cpu() - start) / protocol.warmup / 1e6, 1e-6)
    return int(np.clip(protocol.block_ms / call_ms, 1, MAX_CALLS))


def _block(call: Callable[[], object], count: int, cpu: Clock, wall: Clock) -> tuple[int, int]:
    wall_start, cpu_start = wall(), cpu()
    for _ in range(count):
        call()
    return cpu() - cpu_start, wall() - wall_start


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
