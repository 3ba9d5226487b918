"""Kernels a runtime has built, timed together and written as table entries.

For runtimes that say themselves which kernel they run; ONNX Runtime, which has to be asked node
by node, has its own way (:mod:`hw_profiles.backends.onnxruntime_cpu.measure`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hw_profiles.backends.base import Call, Progress
from hw_profiles.profile import Entry, EntryKey
from hw_profiles.timing import PREEMPTED_RATIO, Clock, Protocol, Timing, time_interleaved
from quant.formats import parse_format

LEAST_COPIES, MOST_COPIES = 4, 64
BATCH = 48
"""Kernels timed in one interleaved round: all their copies are alive together."""
STREAMED_BYTES = 1 << 20
"""Weights from this size on are bound by memory in a network that is larger than the cache."""
LEAST_MS = 1e-6
_REFERENCE, _OVERHEAD = "reference", "overhead"


@dataclass(frozen=True)
class Built:
    """A kernel ready to be timed.

    Attributes:
        call: runs ``copies`` copies of it.
        copies: how many one call runs.
        ops: names of the kernels the runtime executes.
        genuine: True when they compute in the key's formats.
        share: part of the call's time that belongs to the kernel, 0..1: what converts layouts
            at the ends of an isolated layer is no part of it.
    """

    call: Call
    copies: int
    ops: tuple[str, ...]
    genuine: bool
    share: float = 1.0


@dataclass(frozen=True)
class Bench:
    """How the kernels of one runtime are timed.

    Attributes:
        build: makes the kernel of a key.
        reference: a kernel timed in every round, so that tables of different hours compare.
        overhead: a call that does nothing; subtracted from every other.
        protocol: rounds, warm-up, block length.
        rng: order within rounds.
        clock: nanosecond clock of the work; CPU time of this thread unless it runs elsewhere.
    """

    build: Callable[[EntryKey], Built]
    reference: Call
    overhead: Call
    protocol: Protocol
    rng: np.random.Generator
    clock: Clock = time.thread_time_ns

    def entries(self, keys: Sequence[EntryKey], progress: Progress) -> list[Entry]:
        """Times every key; entries in the order of ``keys``."""
        found: list[Entry] = []
        for start in range(0, len(keys), BATCH):
            found += self._batch(keys[start : start + BATCH])
            progress(f"measured {len(found)} of {len(keys)} kernels")
        disturbed = sum(entry.wall_ratio > PREEMPTED_RATIO for entry in found)
        if disturbed:
            progress(f"{disturbed} of {len(found)} kernels were pre-empted while measured")
        return found

    def _batch(self, keys: Sequence[EntryKey]) -> list[Entry]:
        built = {key: self.build(key) for key in keys}
        calls: dict[object, Call] = {_REFERENCE: self.reference, _OVERHEAD: self.overhead}
        calls |= {key: item.call for key, item in built.items()}
        timings = time_interleaved(calls, self.protocol, self.rng, cpu=self.clock)
        overhead = timings[_OVERHEAD].statistic_ms(memory_bound=False)
        reference = max(timings[_REFERENCE].statistic_ms(memory_bound=False) - overhead, LEAST_MS)
        return [_entry(key, built[key], timings[key], overhead, reference) for key in keys]


def weight_bytes(key: EntryKey) -> float:
    """Bytes of the weights of a kernel as it stores them."""
    if not key.weight_shape:
        return 0.0
    return math.prod(key.weight_shape) * parse_format(key.weight_format).bits / 8


def copies_of(key: EntryKey, rotate_bytes: int) -> int:
    """Copies of a kernel's weights that together exceed the private cache of a core."""
    size = weight_bytes(key)
    wanted = math.ceil(rotate_bytes / size) if size else LEAST_COPIES
    return int(np.clip(wanted, LEAST_COPIES, MOST_COPIES))


def is_memory_bound(key: EntryKey) -> bool:
    """True for few rows against large weights: lucky bandwidth would win a low percentile."""
    return weight_bytes(key) >= STREAMED_BYTES


def _entry(
    key: EntryKey, built: Built, timing: Timing, overhead_ms: float, reference_ms: float
) -> Entry:
    memory_bound = is_memory_bound(key)
    call_ms = timing.statistic_ms(memory_bound) - overhead_ms
    return Entry(
        key=key,
        latency_ms=max(built.share * call_ms / built.copies, LEAST_MS),
        spread=timing.spread,
        rounds=len(timing.call_ms),
        statistic="median" if memory_bound else "p20",
        kernel_ops=built.ops,
        genuine=built.genuine,
        provenance="measured",
        reference_ms=reference_ms,
        wall_ratio=float(np.median(timing.wall_ratio)),
    )
