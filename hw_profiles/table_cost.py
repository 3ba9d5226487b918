"""The additive cost model of search: table look-ups plus the conversions between layers.

Latency of a policy = sum of kernel times + one quantize term for every layer that takes an
integer tensor which is not there yet + one dequantize term for every layer whose integer
output somebody needs in float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_profiles import footprint
from hw_profiles.backends.base import Backend
from hw_profiles.cost import Codes, Floats
from hw_profiles.keys import (
    FLOAT_EDGE,
    choices_by_layer,
    dequantize_key,
    layer_key,
    layers_missing,
    missing_keys,
    quantize_key,
)
from hw_profiles.profile import Profile
from quant.errors import ProfileError
from spaces.choices import Choice
from spaces.layers import LayerSpec
from spaces.space import SearchSpace

Bools = npt.NDArray[np.bool_]
Cost = Callable[[LayerSpec, Choice], float]
METRICS = ("size_bytes", "bops", "latency_ms")
CHUNK = 1 << 14


def build_cost_model(
    space: SearchSpace, profile: Profile, backend: Backend, batch: int = 1
) -> TableCostModel:
    """Joins a space with a profile that covers it.

    Raises:
        ProfileError: entries are missing; lists the layers and the command that measures them.
    """
    threads = profile.threads
    require_coverage(space, profile, backend, batch)

    def latency(layer: LayerSpec, choice: Choice) -> float:
        return profile.by_key[layer_key(backend, layer, choice, batch, threads)].latency_ms

    tables = {
        "size_bytes": _group_table(space, footprint.size_bytes),
        "bops": _group_table(space, footprint.bops),
        "latency_ms": _group_table(space, latency),
    }
    edges = EdgeModel.build(space, profile, backend, batch)
    return TableCostModel(tables, edges, _provenance(space, profile, backend, batch))


def require_coverage(
    space: SearchSpace, profile: Profile, backend: Backend, batch: int = 1
) -> None:
    """Refuses a profile that lacks entries of the space.

    Raises:
        ProfileError: lists the layers that lack an entry and the command that measures them.
    """
    missing = missing_keys(space, profile, backend, batch, profile.threads)
    if not missing:
        return
    layers = layers_missing(space, missing, backend, batch, profile.threads)
    shown = ", ".join(layers[:12]) + (f" and {len(layers) - 12} more" if len(layers) > 12 else "")
    raise ProfileError(
        f"latency table '{profile.name}' lacks {len(missing)} entries of space '{space.name}': "
        f"{shown}",
        where=f"profile {profile.hash}",
        expected=f"an entry per layer and choice, for example {missing[0]}",
        fix=f"measure them with: bitfront-measure build task=<task> space={space.name}",
    )


class TableCostModel:
    """Costs of a space from tables; see :class:`hw_profiles.cost.CostModel`."""

    metrics = METRICS

    def __init__(
        self, tables: Mapping[str, Floats], edges: EdgeModel, provenance: Mapping[str, Any]
    ) -> None:
        """Keeps ``tables[metric]``, ``float[groups, max choices]``, and the edge terms."""
        self._tables = dict(tables)
        self._edges = edges
        self._provenance = provenance

    def table(self, metric: str) -> Floats:
        """Additive cost of each choice, ``float[groups, max choices]``, NaN-padded."""
        return self._tables[metric]

    def edge_ms(self, codes: Codes) -> Floats:
        """Conversions between layers for policies ``int[P, groups]``, ``float[P]``, ms."""
        return self._edges.latency_ms(np.atleast_2d(codes))

    def costs(self, codes: Codes) -> dict[str, Floats]:
        """Costs of policies ``int[P, groups]`` as ``{metric: float[P]}``, edge terms included."""
        codes = np.atleast_2d(np.asarray(codes))
        rows = np.arange(codes.shape[1])
        totals = {name: table[rows, codes].sum(axis=1) for name, table in self._tables.items()}
        totals["latency_ms"] = totals["latency_ms"] + self.edge_ms(codes)
        return totals

    def provenance(self) -> Mapping[str, Any]:
        """Where each metric comes from, and which choices are storage only."""
        return self._provenance


class EdgeModel:
    """Conversion terms of a space.

    A layer's input is *taken* as integers when the layer wants integers and all its producers
    hand out integers. A layer that wants integers and does not get them pays one quantize term
    of its input's shape; layers of the same producers share it. A layer that hands out integers
    pays one dequantize term of its output's shape when some consumer does not take them, or when
    no layer is known to consume it (the model's output, or a float-only op).
    """

    def __init__(
        self,
        integer: Bools,
        group_of: Codes,
        producers: Codes,
        consumers: Codes,
        twins: Codes,
        quantize_ms: Floats,
        dequantize_ms: Floats,
    ) -> None:
        """Keeps the index arrays.

        Args:
            integer: whether a layer's choice has integer edges, ``bool[layers, max choices]``.
            group_of: group of each layer, ``int[layers]``.
            producers: layer indices, ``int[layers, most producers]``; unused places hold
                ``layers`` (always integer), float sources hold ``layers + 1`` (never integer).
            consumers: layer indices ``int[layers, most consumers]``; unused places hold
                ``layers`` (always taken), and a layer without consumers holds ``layers + 1``.
            twins: first layer that reads the same tensor, ``int[layers]``.
            quantize_ms: quantize term of each layer's input, ``float[layers]``.
            dequantize_ms: dequantize term of each layer's output, ``float[layers]``.
        """
        self.integer, self.group_of, self.twins = integer, group_of, twins
        self.producers, self.consumers = producers, consumers
        self.quantize_ms, self.dequantize_ms = quantize_ms, dequantize_ms

    @staticmethod
    def build(space: SearchSpace, profile: Profile, backend: Backend, batch: int) -> EdgeModel:
        """Reads edge types from the backend and conversion times from the profile."""
        index = {layer.name: i for i, layer in enumerate(space.layers)}
        width = max(len(group.all_choices) for group in space.groups)
        integer = np.zeros((len(index), width), dtype=np.bool_)
        quantize, dequantize = np.zeros(len(index)), np.zeros(len(index))
        for layer, choice in choices_by_layer(space):
            i = index[layer.name]
            edge_in, edge_out = backend.edges(backend.runs_as(layer, choice))
            if FLOAT_EDGE in (edge_in, edge_out):
                continue
            options = space.groups[space.group_of[layer.name]].all_choices
            integer[i, options.index(choice)] = True
            args = (batch, profile.threads)
            q_key = quantize_key(layer.input_shape, edge_in, *args)
            dq_key = dequantize_key(layer.output_shape, edge_out, *args)
            quantize[i] = profile.by_key[q_key].latency_ms
            dequantize[i] = profile.by_key[dq_key].latency_ms
        return EdgeModel(
            integer,
            np.array([space.group_of[layer.name] for layer in space.layers]),
            *_links(space.layers, index),
            _twins(space.layers),
            quantize,
            dequantize,
        )

    def latency_ms(self, codes: Codes) -> Floats:
        """Conversion time of policies ``int[P, groups]``, ``float[P]``, milliseconds."""
        parts = [self._chunk_ms(codes[i : i + CHUNK]) for i in range(0, len(codes), CHUNK)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _chunk_ms(self, codes: Codes) -> Floats:
        # Layers first: gathers along axis 0 copy whole contiguous rows of policies.
        layers = len(self.group_of)
        codes = np.ascontiguousarray(codes.T)
        wants = self.integer[np.arange(layers)[:, None], codes[self.group_of]]
        supplied = _with_sentinels(wants)[self.producers].all(axis=1)
        taken = wants & supplied
        quantized = wants & ~supplied
        for layer in np.flatnonzero(self.twins != np.arange(layers)):
            quantized[self.twins[layer]] |= quantized[layer]
            quantized[layer] = False
        kept = _with_sentinels(taken)[self.consumers].all(axis=1)
        dequantized = wants & ~kept
        total: Floats = self.quantize_ms @ quantized + self.dequantize_ms @ dequantized
        return total


def _with_sentinels(rows: Bools) -> Bools:
    """Appends an all-true and an all-false row to ``bool[layers, P]``."""
    ends = np.zeros((2, rows.shape[1]), dtype=np.bool_)
    ends[0] = True
    return np.concatenate([rows, ends])


def _links(layers: tuple[LayerSpec, ...], index: Mapping[str, int]) -> tuple[Codes, Codes]:
    """Padded producer and consumer indices as described in :class:`EdgeModel`."""
    always, never = len(layers), len(layers) + 1
    producers = [[index.get(name, never) for name in layer.producers] for layer in layers]
    producers = [found or [never] for found in producers]
    consumers = [[j for j, found in enumerate(producers) if i in found] for i in range(always)]
    return _padded(producers, always), _padded([found or [never] for found in consumers], always)


def _padded(rows: list[list[int]], fill: int) -> Codes:
    width = max(len(row) for row in rows)
    return np.array([row + [fill] * (width - len(row)) for row in rows], dtype=np.int64)


def _twins(layers: tuple[LayerSpec, ...]) -> Codes:
    """First layer reading the same tensor; float sources are never known to be the same."""
    first: dict[tuple[tuple[str, ...], tuple[int, ...]], int] = {}
    result = []
    for i, layer in enumerate(layers):
        named = layer.producers and "@float" not in layer.producers
        key = (layer.producers, layer.input_shape)
        result.append(first.setdefault(key, i) if named else i)
    return np.array(result, dtype=np.int64)


def _group_table(space: SearchSpace, cost: Cost) -> Floats:
    """Sums ``cost(layer, choice)`` over the layers of each group."""
    width = max(len(group.all_choices) for group in space.groups)
    table = np.full((len(space.groups), width), np.nan)
    for g, group in enumerate(space.groups):
        for c, choice in enumerate(group.all_choices):
            table[g, c] = sum(cost(space.layer_named[name], choice) for name in group.layers)
    return table


def _provenance(
    space: SearchSpace, profile: Profile, backend: Backend, batch: int
) -> dict[str, Any]:
    computed = {"kind": "computed"}
    used = [
        profile.by_key[layer_key(backend, layer, choice, batch, profile.threads)]
        for layer, choice in choices_by_layer(space)
    ]
    kinds = sorted({entry.provenance for entry in used})
    latency = {
        "kind": kinds[0] if len(kinds) == 1 else "mixed",
        "kinds": kinds,
        "device": profile.device.name,
        "runtime": f"{profile.runtime} {profile.runtime_version}",
        "threads": profile.threads,
        "batch": batch,
        "date": profile.date,
        "entries": len(used),
        "preempted": sum(entry.wall_ratio > 1.2 for entry in used),
        "storage_only": _storage_only(space, profile, backend, batch),
        "validated": False,
    }
    return {
        "profile_hash": profile.hash,
        "profile": profile.name,
        "size_bytes": {**computed, "detail": "packed weights, scales, zero points and biases"},
        "bops": {**computed, "detail": "MACs x weight bits x activation bits"},
        "latency_ms": latency,
    }


def _storage_only(
    space: SearchSpace, profile: Profile, backend: Backend, batch: int
) -> dict[str, dict[str, str]]:
    """``{layer: {choice: reason}}`` of choices without a kernel of their own."""
    found: dict[str, dict[str, str]] = {}
    for layer, choice in choices_by_layer(space):
        reason = backend.supports(layer, choice)
        entry = profile.by_key[layer_key(backend, layer, choice, batch, profile.threads)]
        if reason is None and not entry.genuine:
            reason = f"the runtime executed {', '.join(entry.kernel_ops)} instead"
        if reason is not None:
            found.setdefault(layer.name, {})[choice.text] = reason
    return found
