"""A whole model in ONNX Runtime with random weights: what it executes and how fast it runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx
from torch import Tensor, nn

from hw_profiles.backends.base import Call, Kernels
from hw_profiles.backends.onnxruntime_cpu.lower import Range, Weights
from hw_profiles.backends.onnxruntime_cpu.models import INPUT, SCALE, layer_weights
from hw_profiles.backends.onnxruntime_cpu.nodes import Node, split_nodes
from hw_profiles.backends.onnxruntime_cpu.session import (
    bound_call,
    open_session,
    optimized_graph,
    profiled_ms,
)
from hw_profiles.backends.onnxruntime_cpu.skeleton import Skeleton, export_skeleton, layer_name
from hw_profiles.backends.onnxruntime_cpu.whole import lower_model
from spaces.choices import Choice
from spaces.layers import LayerSpec

CARRYING = frozenset(
    {"Relu", "Clip", "Identity", "Add", "Mul", "Sigmoid", "HardSigmoid", "HardSwish", "Concat"}
    | {"MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Reshape", "Transpose"}
)
"""Ops a layout or an integer tensor may pass; what lies behind others is no neighbour."""
JOINING = frozenset({"Add", "Mul", "Concat"})
MOST_JOINS = 1
"""A residual stream joins everything with everything; neighbours meet in one addition."""


@dataclass
class RandomParameters:
    """Weights drawn once per layer and kernel; every tensor is on one grid."""

    layers: Mapping[str, LayerSpec]
    rng: np.random.Generator
    drawn: dict[tuple[str, Choice], Weights] = field(default_factory=dict)

    def weights(self, layer: str, kernel: Choice) -> Weights:
        """Random weights in the kernel's form."""
        key = (layer, kernel)
        if key not in self.drawn:
            self.drawn[key] = layer_weights(self.layers[layer], kernel, self.rng)
        return self.drawn[key]

    def input_grid(self, layer: str) -> Range:
        """Zero point 0 behind a ReLU."""
        return Range(SCALE, 0 if self.layers[layer].input_nonnegative else 128)

    def output_grid(self, layer: str) -> Range:
        """Zero point 0 where a ReLU is fused."""
        return Range(SCALE, 0 if self.layers[layer].fused_with == "relu" else 128)

    def rounded_input(self, layer: str) -> Range | None:
        """None: what a format without a kernel rounds is no part of a table."""
        return None


@dataclass
class OnnxNetwork:
    """See :class:`hw_profiles.backends.base.Network`."""

    skeleton: Skeleton
    parameters: RandomParameters
    feed: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]
    seed: int

    @staticmethod
    def of(
        model: nn.Module, layers: Sequence[LayerSpec], example_input: Tensor, seed: int
    ) -> OnnxNetwork:
        """Translates ``model`` once.

        Raises:
            UsageError: it cannot be translated.
        """
        skeleton = export_skeleton(model, layers, example_input)
        parameters = RandomParameters(skeleton.layers, np.random.default_rng(seed))
        feed = {INPUT: example_input.detach().contiguous().numpy()}
        return OnnxNetwork(skeleton, parameters, feed, seed)

    @cached_property
    def signature(self) -> str:
        """Hash of the graph without its trained numbers."""
        bare = onnx.GraphProto()
        bare.CopyFrom(self.skeleton.model.graph)
        for item in bare.initializer:
            shape = list(item.dims)
            item.Clear()
            item.dims.extend(shape)
        layers = [str(spec) for spec in self.skeleton.layers.values()]
        text = bare.SerializeToString() + "|".join(layers).encode()
        return hashlib.sha256(text).hexdigest()[:16]

    @cached_property
    def neighbours(self) -> tuple[tuple[str, str], ...]:
        """Layers that meet: reader and source, readers of one tensor, or joined by an addition."""
        found: dict[tuple[str, str], None] = {}
        for sources in self._meetings():
            ordered = sorted(sources, key=lambda name: self.skeleton.layers[name].index)
            for i, first in enumerate(ordered):
                for second in ordered[i + 1 :]:
                    found[first, second] = None
        return tuple(found)

    def nodes(self, kernels: Kernels) -> list[Node]:
        """What the runtime executes for a policy, after its optimisation."""
        return split_nodes(optimized_graph(self.lowered(kernels)), self.feed)

    def call(self, kernels: Kernels) -> Call:
        """Runs a policy end to end once per call."""
        session = open_session(self.lowered(kernels))
        return bound_call([session], np.random.default_rng(self.seed), self.feed)

    def op_times(self, kernels: Kernels, calls: int) -> dict[str, float]:
        """Milliseconds per op type inside the whole network, 20th percentile over calls."""
        return profiled_ms(self.lowered(kernels), self.feed, calls)

    def lowered(self, kernels: Kernels) -> onnx.ModelProto:
        """The graph handed to the runtime."""
        return lower_model(self.skeleton, kernels, self.parameters)

    def _meetings(self) -> Iterator[set[str]]:
        """Sets of layers around each tensor: its producers and its reading layers."""
        producer = {
            output: node for node in self.skeleton.model.graph.node for output in node.output
        }
        for node in self.skeleton.model.graph.node:
            reading = layer_name(node)
            if reading is not None:
                twins = {layer_name(reader) for reader in self.skeleton.readers[node.input[0]]}
                sources = _sources(node.input[0], producer, MOST_JOINS)
                yield from ({reading, source} for source in sources)
                yield {name for name in twins if name is not None}
            elif node.op_type in JOINING:
                yield {name for item in node.input for name in _sources(item, producer, 0)}


def _sources(tensor: str, producer: Mapping[str, onnx.NodeProto], joins: int) -> set[str]:
    """Layers whose output reaches ``tensor`` through carrying ops and at most ``joins`` joins."""
    node = producer.get(tensor)
    if node is None:
        return set()
    name = layer_name(node)
    if name is not None:
        return {name}
    if node.op_type not in CARRYING:
        return set()
    joins -= node.op_type in JOINING
    if joins < 0:
        return set()
    return {found for item in node.input for found in _sources(item, producer, joins)}
