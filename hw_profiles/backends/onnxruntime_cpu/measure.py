"""Times ONNX Runtime kernels: one small model per table entry, all interleaved.

Weights rotate over copies that together exceed the private cache; activation buffers are
shared; the overhead of an empty call is subtracted; the optimised graph tells which kernel ran.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx

from hw_profiles.backends.base import Progress
from hw_profiles.backends.onnxruntime_cpu.kernels import EXPECTED_OPS, kernel_of
from hw_profiles.backends.onnxruntime_cpu.models import (
    identity_model,
    kernel_model,
    tensor_shapes,
)
from hw_profiles.backends.onnxruntime_cpu.session import (
    bound_call,
    op_types,
    open_session,
    optimized_graph,
)
from hw_profiles.profile import Entry, EntryKey
from hw_profiles.timing import PREEMPTED_RATIO, Protocol, Timing, time_interleaved
from quant.formats import parse_format
from spaces.choices import Choice

MAX_CLONES = 16
BATCH_BYTES = 256 << 20
BATCH_KEYS = 96
LEAST_MS = 1e-6
"""Entries are never zero: an op that vanishes in the call overhead still costs a nanosecond."""

REFERENCE_KEY = EntryKey(
    "conv2d", (64, 64, 3, 3), (1, 64, 28, 28), (1, 64, 28, 28), (1, 1), (1, 1), (1, 1),
    weight_format="float32", activation_format="float32",
)  # fmt: skip
"""Timed in every round of every batch, so that tables of different hours can be compared."""

_REFERENCE, _OVERHEAD = "reference", "overhead"


def measure_keys(
    keys: Sequence[EntryKey],
    protocol: Protocol,
    rng: np.random.Generator,
    rotate_bytes: int,
    progress: Progress,
) -> list[Entry]:
    """Times every key; entries in the order of ``keys``."""
    entries: list[Entry] = []
    for batch in _batches(keys, rotate_bytes):
        entries += _measure_batch(batch, protocol, rng, rotate_bytes)
        progress(f"measured {len(entries)} of {len(keys)} kernels")
    disturbed = sum(entry.wall_ratio > PREEMPTED_RATIO for entry in entries)
    if disturbed:
        progress(f"{disturbed} of {len(entries)} kernels were pre-empted while measured")
    return entries


def _measure_batch(
    keys: Sequence[EntryKey], protocol: Protocol, rng: np.random.Generator, rotate_bytes: int
) -> list[Entry]:
    calls: dict[EntryKey | str, Callable[[], None]] = {
        _OVERHEAD: bound_call([open_session(identity_model())], rng),
        _REFERENCE: _rotating(REFERENCE_KEY, kernel_model(REFERENCE_KEY, rng), rng, rotate_bytes),
    }
    ops: dict[EntryKey, tuple[str, ...]] = {}
    for key in keys:
        model = kernel_model(key, rng)
        ops[key] = op_types(optimized_graph(model))
        calls[key] = _rotating(key, model, rng, rotate_bytes)
    timings = time_interleaved(calls, protocol, rng)
    overhead_ms = timings[_OVERHEAD].statistic_ms(memory_bound=False)
    reference_ms = timings[_REFERENCE].statistic_ms(memory_bound=False) - overhead_ms
    return [_entry(key, timings[key], ops[key], overhead_ms, reference_ms) for key in keys]


def _entry(
    key: EntryKey, timing: Timing, ops: tuple[str, ...], overhead_ms: float, reference_ms: float
) -> Entry:
    memory_bound = is_memory_bound(key)
    return Entry(
        key=key,
        latency_ms=max(timing.statistic_ms(memory_bound) - overhead_ms, LEAST_MS),
        spread=timing.spread,
        rounds=len(timing.call_ms),
        statistic="median" if memory_bound else "p20",
        kernel_ops=ops,
        genuine=is_genuine(key, ops),
        provenance="measured",
        reference_ms=reference_ms,
        wall_ratio=float(np.median(timing.wall_ratio)),
    )


def is_genuine(key: EntryKey, ops: Sequence[str]) -> bool:
    """True when the executed ops compute in the key's formats."""
    if key.op in ("quantize", "dequantize"):
        return True
    choice = Choice(parse_format(key.weight_format), parse_format(key.activation_format))
    return not EXPECTED_OPS[kernel_of(choice)].isdisjoint(ops)


def weight_bytes(key: EntryKey) -> int:
    """Bytes of packed weights a kernel reads per call."""
    if not key.weight_shape:
        return 0
    return math.prod(key.weight_shape) * parse_format(key.weight_format).bits // 8


def is_memory_bound(key: EntryKey) -> bool:
    """True when each weight is used for few rows, so that streaming weights decides the time."""
    rows = math.prod(tensor_shapes(key)[1]) // (key.weight_shape[0] if key.weight_shape else 1)
    return bool(key.weight_shape) and rows < 8


def _rotating(
    key: EntryKey, model: onnx.ModelProto, rng: np.random.Generator, rotate_bytes: int
) -> Callable[[], None]:
    size = max(weight_bytes(key), 1)
    copies = int(np.clip(math.ceil(rotate_bytes / size), 2, MAX_CLONES)) if size > 1 else 1
    return bound_call([open_session(model) for _ in range(copies)], rng)


def _batches(keys: Sequence[EntryKey], rotate_bytes: int) -> Iterator[list[EntryKey]]:
    """Splits keys so that the copies of one batch fit in memory."""
    batch: list[EntryKey] = []
    held = 0
    for key in keys:
        size = max(rotate_bytes, 2 * weight_bytes(key))
        if batch and (held + size > BATCH_BYTES or len(batch) == BATCH_KEYS):
            yield batch
            batch, held = [], 0
        batch.append(key)
        held += size
    if batch:
        yield batch
