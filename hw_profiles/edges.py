"""Conversions between layers by rule, for tables of devices that cannot be asked themselves.

One quantize term for every layer that takes an integer tensor which is not there yet, one
dequantize term for every layer whose integer output somebody needs in float. On the machine at
hand :mod:`hw_profiles.conversions` reads what the runtime really inserts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hw_profiles.backends.base import Backend
from hw_profiles.cost import Codes, Floats
from hw_profiles.keys import FLOAT_EDGE, choices_by_layer, dequantize_key, quantize_key
from hw_profiles.profile import Profile
from spaces.layers import LayerSpec
from spaces.space import SearchSpace

Bools = npt.NDArray[np.bool_]
CHUNK = 1 << 14


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
        wants: Bools,
        gives: Bools,
        group_of: Codes,
        producers: Codes,
        consumers: Codes,
        twins: Codes,
        quantize_ms: Floats,
        dequantize_ms: Floats,
    ) -> None:
        """Keeps the index arrays.

        Args:
            wants: whether a layer's choice takes integers, ``bool[layers, max choices]``.
            gives: whether it hands integers out, same shape.
            group_of: group of each layer, ``int[layers]``.
            producers: layer indices, ``int[layers, most producers]``; unused places hold
                ``layers`` (always integer), float sources hold ``layers + 1`` (never integer).
            consumers: layer indices ``int[layers, most consumers]``; unused places hold
                ``layers`` (always taken), and a layer without consumers holds ``layers + 1``.
            twins: first layer that reads the same tensor, ``int[layers]``.
            quantize_ms: quantize term of each layer's input, ``float[layers]``.
            dequantize_ms: dequantize term of each layer's output, ``float[layers]``.
        """
        self.wants, self.gives = wants, gives
        self.group_of, self.twins = group_of, twins
        self.producers, self.consumers = producers, consumers
        self.quantize_ms, self.dequantize_ms = quantize_ms, dequantize_ms

    @staticmethod
    def build(space: SearchSpace, profile: Profile, backend: Backend, batch: int) -> EdgeModel:
        """Reads edge types from the backend and conversion times from the profile."""
        index = {layer.name: i for i, layer in enumerate(space.layers)}
        width = max(len(group.all_choices) for group in space.groups)
        wants, gives = np.zeros((2, len(index), width), dtype=np.bool_)
        quantize, dequantize = np.zeros(len(index)), np.zeros(len(index))
        for layer, choice in choices_by_layer(space):
            i = index[layer.name]
            edge_in, edge_out = backend.edges(layer, backend.runs_as(layer, choice))
            code = space.groups[space.group_of[layer.name]].all_choices.index(choice)
            args = (batch, profile.threads)
            if edge_in != FLOAT_EDGE:
                wants[i, code] = True
                key = quantize_key(layer.input_shape, edge_in, *args)
                quantize[i] = profile.by_key[key].latency_ms
            if edge_out != FLOAT_EDGE:
                gives[i, code] = True
                key = dequantize_key(layer.output_shape, edge_out, *args)
                dequantize[i] = profile.by_key[key].latency_ms
        return EdgeModel(
            wants,
            gives,
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
        place = np.arange(layers)[:, None], codes[self.group_of]
        wants, gives = self.wants[place], self.gives[place]
        supplied = _with_sentinels(gives)[self.producers].all(axis=1)
        taken = wants & supplied
        quantized = wants & ~supplied
        for layer in np.flatnonzero(self.twins != np.arange(layers)):
            quantized[self.twins[layer]] |= quantized[layer]
            quantized[layer] = False
        kept = _with_sentinels(taken)[self.consumers].all(axis=1)
        dequantized = gives & ~kept
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
