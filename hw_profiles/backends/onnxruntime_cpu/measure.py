"""Times ONNX Runtime kernels node by node, all interleaved.

An isolated layer pays for layout conversions at both ends that a network shares or drops, so a
table entry is the time of the nodes that compute: the layer's model is optimised by the runtime,
the optimised graph is split, and every distinct node is timed alone with optimisation off.
A node is timed as several copies in one graph, each with its own constants, which together exceed
the private cache, and once more with constants that stay in it; activations are shared; the
optimised graph tells which kernel ran. The overhead of a call is subtracted, that of dispatching a
node inside a graph is not: a network pays it for every node it executes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hw_profiles.backends.base import GraphNode, Measured, Progress
from hw_profiles.backends.onnxruntime_cpu.kernels import EXPECTED_OPS, kernel_of
from hw_profiles.backends.onnxruntime_cpu.models import (
    INPUT,
    example_input,
    identity_model,
    kernel_model,
)
from hw_profiles.backends.onnxruntime_cpu.nodes import (
    LAYOUT_OPS,
    STREAMED_BYTES,
    Node,
    is_memory_bound,
    repeated,
    split_nodes,
    unique,
)
from hw_profiles.backends.onnxruntime_cpu.session import (
    bound_call,
    open_optimized,
    open_session,
    optimized_graph,
)
from hw_profiles.profile import Entry, EntryKey, NodeEntry
from hw_profiles.timing import PREEMPTED_RATIO, Protocol, Timing, time_interleaved
from quant.formats import parse_format
from spaces.choices import Choice

LEAST_COPIES, MOST_COPIES = 4, 64
BATCH_BYTES = 256 << 20
BATCH_NODES = 96
MAY_RESIDE = 0.25
"""Constants above this share of the rotated bytes are never resident in a private cache."""
LEAST_MS = 1e-6
"""Entries are never zero: an op that vanishes in the call overhead still costs a nanosecond."""

REFERENCE_KEY = EntryKey(
    "conv2d", (64, 64, 3, 3), (1, 64, 28, 28), (1, 64, 28, 28), (1, 1), (1, 1), (1, 1),
    weight_format="float32", activation_format="float32",
)  # fmt: skip
"""Timed in every round of every batch, so that tables of different hours can be compared."""

CONVERSIONS = ("quantize", "dequantize")
CHAIN = 65
"""Empty nodes in a row; their time tells what dispatching one costs."""
_REFERENCE, _OVERHEAD, _CHAIN = "reference", "overhead", "chain"


@dataclass(frozen=True)
class NodeTimer:
    """How nodes are timed: see :class:`hw_profiles.timing.Protocol` for the rounds.

    Attributes:
        protocol: rounds, warm-up, block length.
        rotate_bytes: total size of the copies a node's constants rotate over.
        seed: order within rounds.
    """

    protocol: Protocol
    rotate_bytes: int
    seed: int

    def time(self, nodes: Sequence[Node], progress: Progress) -> list[NodeEntry]:
        """One entry per distinct node."""
        rng = np.random.default_rng(self.seed)
        found: list[NodeEntry] = []
        distinct = list(unique(nodes))
        for batch in self._batches(distinct):
            found += self._batch(batch, rng)
            progress(f"measured {len(found)} of {len(distinct)} kernels")
        disturbed = sum(entry.wall_ratio > PREEMPTED_RATIO for entry in found)
        if disturbed:
            progress(f"{disturbed} of {len(found)} kernels were pre-empted while measured")
        return found

    def _batch(self, nodes: Sequence[Node], rng: np.random.Generator) -> list[NodeEntry]:
        calls: dict[str, Callable[[], None]] = {
            _OVERHEAD: bound_call([open_optimized(identity_model())], rng),
            _CHAIN: bound_call([open_optimized(identity_model(CHAIN))], rng),
            _REFERENCE: bound_call([open_session(kernel_model(REFERENCE_KEY, rng))], rng),
        }
        for node in nodes:
            copies = self._copies(node)
            session = open_optimized(repeated(node, copies))
            calls[node.id] = bound_call([session], rng, node.inputs)
            if self._may_reside(node):
                session = open_optimized(repeated(node, copies, resident=True))
                calls[_resident(node)] = bound_call([session], rng, node.inputs)
        timings = time_interleaved(calls, self.protocol, rng)
        one = timings[_OVERHEAD].statistic_ms(memory_bound=False)
        chain = timings[_CHAIN].statistic_ms(memory_bound=False)
        overhead = max(one - (chain - one) / (CHAIN - 1), 0.0)
        reference = timings[_REFERENCE].statistic_ms(memory_bound=False) - overhead
        return [
            _entry(
                node,
                timings[node.id],
                timings.get(_resident(node)),
                self._copies(node),
                overhead,
                reference,
            )
            for node in nodes
        ]

    def _may_reside(self, node: Node) -> bool:
        """True where a private cache could hold the constants, and that is another time."""
        return STREAMED_BYTES <= node.constant_bytes <= MAY_RESIDE * self.rotate_bytes

    def _copies(self, node: Node) -> int:
        if node.constant_bytes < STREAMED_BYTES:
            return LEAST_COPIES
        wanted = math.ceil(self.rotate_bytes / node.constant_bytes)
        return int(np.clip(wanted, LEAST_COPIES, MOST_COPIES))

    def _batches(self, nodes: Sequence[Node]) -> Iterator[list[Node]]:
        """Splits nodes so that the copies of one batch fit in memory."""
        batch: list[Node] = []
        held = 0
        for node in nodes:
            size = self._copies(node) * node.constant_bytes
            if batch and (held + size > BATCH_BYTES or len(batch) == BATCH_NODES):
                yield batch
                batch, held = [], 0
            batch.append(node)
            held += size
        if batch:
            yield batch


def measure_nodes(
    nodes: Sequence[GraphNode], timer: NodeTimer, progress: Progress
) -> list[NodeEntry]:
    """Times the nodes of a network of this backend."""
    own = [node for node in nodes if isinstance(node, Node)]
    assert len(own) == len(nodes), "nodes of another backend"
    return timer.time(own, progress)


def measure_keys(
    keys: Sequence[EntryKey], timer: NodeTimer, rng: np.random.Generator, progress: Progress
) -> Measured:
    """Times every key; entries in the order of ``keys``."""
    parts = [executed(key, rng) for key in keys]
    cores = [core(key, nodes) for key, nodes in zip(keys, parts, strict=True)]
    timed = timer.time([node for nodes in cores for node in nodes], progress)
    by_id = {entry.id: entry for entry in timed}
    entries = [
        _summed(key, tuple(node.op for node in nodes), [by_id[node.id] for node in kept])
        for key, nodes, kept in zip(keys, parts, cores, strict=True)
    ]
    return Measured(tuple(entries), tuple(timed))


def executed(key: EntryKey, rng: np.random.Generator) -> list[Node]:
    """Nodes the runtime executes for an isolated layer or conversion."""
    optimized = optimized_graph(kernel_model(key, rng))
    return split_nodes(optimized, {INPUT: example_input(key, rng)})


def core(key: EntryKey, nodes: Sequence[Node]) -> list[Node]:
    """The nodes that compute; all of them when nothing but conversions is there."""
    if key.op in CONVERSIONS:
        return list(nodes)
    return [node for node in nodes if node.op not in LAYOUT_OPS] or list(nodes)


def is_genuine(key: EntryKey, ops: Sequence[str]) -> bool:
    """True when the executed ops compute in the key's formats."""
    if key.op in CONVERSIONS:
        return True
    choice = Choice(parse_format(key.weight_format), parse_format(key.activation_format))
    return not EXPECTED_OPS[kernel_of(choice)].isdisjoint(ops)


def _resident_sum(nodes: Sequence[NodeEntry]) -> float | None:
    """Time with constants that stay in the cache; None when that is no other time."""
    if all(node.resident_ms is None for node in nodes):
        return None
    return sum(node.latency_ms if node.resident_ms is None else node.resident_ms for node in nodes)


def _resident(node: Node) -> str:
    """Name of the candidate whose constants stay in the cache."""
    return f"{node.id}/resident"


def _entry(
    node: Node,
    timing: Timing,
    resident: Timing | None,
    copies: int,
    overhead_ms: float,
    reference_ms: float,
) -> NodeEntry:
    memory_bound = is_memory_bound(node)

    def one(found: Timing, memory_bound: bool) -> float:
        call_ms = found.statistic_ms(memory_bound) - overhead_ms
        return max(call_ms / copies, LEAST_MS)

    return NodeEntry(
        id=node.id,
        text=node.text,
        latency_ms=one(timing, memory_bound),
        resident_ms=None if resident is None else one(resident, memory_bound=False),
        spread=timing.spread,
        rounds=len(timing.call_ms),
        statistic="median" if memory_bound else "p20",
        reference_ms=reference_ms,
        wall_ratio=float(np.median(timing.wall_ratio)),
    )


def _summed(key: EntryKey, ops: tuple[str, ...], nodes: Sequence[NodeEntry]) -> Entry:
    slowest = max(nodes, key=lambda node: node.latency_ms)
    return Entry(
        key=key,
        latency_ms=sum(node.latency_ms for node in nodes),
        resident_ms=_resident_sum(nodes),
        spread=slowest.spread,
        rounds=slowest.rounds,
        statistic=slowest.statistic,
        kernel_ops=ops,
        genuine=is_genuine(key, ops),
        provenance="measured",
        reference_ms=slowest.reference_ms,
        wall_ratio=max(node.wall_ratio for node in nodes),
    )
