"""A whole model in a policy's formats as one ONNX graph.

Every placeholder of a :class:`Skeleton` becomes the nodes of its kernel
(:mod:`~hw_profiles.backends.onnxruntime_cpu.lower`). A static int8 layer reads its input through
a QuantizeLinear / DequantizeLinear pair. A static int8 convolution also needs such a pair behind
its output, after the ReLU where one follows, or the runtime would compute it in float; integer
matrix products hand out float32 directly. Layers that read one tensor on one grid share the pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import onnx
from onnx import helper

from hw_profiles.backends.onnxruntime_cpu.kernels import Kernel, kernel_of
from hw_profiles.backends.onnxruntime_cpu.lower import (
    MICROSOFT,
    OPSET,
    Fragment,
    Range,
    Weights,
    dequantize,
    lower_layer,
    quantize,
)
from hw_profiles.backends.onnxruntime_cpu.skeleton import Skeleton, layer_name
from spaces.choices import Choice
from spaces.layers import LayerSpec


class Parameters(Protocol):
    """Where the numbers of a lowered model come from."""

    def weights(self, layer: str, kernel: Choice) -> Weights:
        """Weights of a layer in the form its kernel stores them."""
        ...

    def input_grid(self, layer: str) -> Range:
        """Grid of the tensor entering a static int8 layer."""
        ...

    def output_grid(self, layer: str) -> Range:
        """Grid of the tensor leaving a static int8 convolution, behind its ReLU."""
        ...

    def rounded_input(self, layer: str) -> Range | None:
        """Grid the input of a layer without an integer kernel is rounded to, None for none.

        Formats that are only stored round their inputs too; latency tables leave that out.
        """
        ...


def lower_model(
    skeleton: Skeleton, kernels: Mapping[str, Choice], parameters: Parameters
) -> onnx.ModelProto:
    """The graph of a policy.

    Args:
        skeleton: the model.
        kernels: kernel choice of every layer (what the backend's ``runs_as`` returns).
        parameters: weights and grids.
    """
    graph = _Lowering(skeleton, kernels, parameters)
    for node in skeleton.model.graph.node:
        graph.add(node)
    return graph.finished()


@dataclass
class _Lowering:
    """State of one walk over the graph, in execution order."""

    skeleton: Skeleton
    kernels: Mapping[str, Choice]
    parameters: Parameters
    part: Fragment = field(default_factory=Fragment)
    renamed: dict[str, str] = field(default_factory=dict)
    on_grid: dict[tuple[str, Range], str] = field(default_factory=dict)
    flat: dict[str, str] = field(default_factory=dict)
    points: dict[str, str] = field(default_factory=dict)

    def add(self, node: onnx.NodeProto) -> None:
        """Appends one node of the skeleton, lowered."""
        name = layer_name(node)
        if name is None:
            copied = onnx.NodeProto()
            copied.CopyFrom(node)
            copied.input[:] = [self.renamed.get(item, item) for item in node.input]
            self.part.nodes.append(copied)
        else:
            self._layer(node, self.skeleton.layers[name])
        for output in node.output:
            if output in self.points:
                self._quantize_output(output, self.points[output])

    def finished(self) -> onnx.ModelProto:
        """The checked model."""
        source = self.skeleton.model
        for value in source.graph.output:
            if value.name in self.renamed:
                self.part.node("Identity", [self.renamed[value.name]], value.name)
        graph = helper.make_graph(
            self.part.nodes,
            "policy",
            source.graph.input,
            source.graph.output,
            [*source.graph.initializer, *self.part.constants],
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def _layer(self, node: onnx.NodeProto, layer: LayerSpec) -> None:
        choice = self.kernels[layer.name]
        kernel = kernel_of(choice)
        source, target = self.renamed.get(node.input[0], node.input[0]), node.output[0]
        prefix = f"{target}/"
        matrix = layer.op == "linear" and kernel in (Kernel.FLOAT, Kernel.INT8_STATIC)
        reshaped = matrix and len(layer.input_shape) != 2
        if reshaped:
            source = self._flattened(source, layer)
        grid = None
        if kernel is Kernel.INT8_STATIC:
            grid = self.parameters.input_grid(layer.name)
            source = self._on_grid(source, grid)
            if layer.op != "linear":
                self.points[self.skeleton.behind_relu(target)] = layer.name
        elif (rounded := self.parameters.rounded_input(layer.name)) is not None:
            source = self._on_grid(source, rounded)
        product = f"{prefix}rows" if reshaped else target
        plain = replace(layer, fused_with="")
        weights = self.parameters.weights(layer.name, choice)
        # On a coarse grid the steps of an integer bias are coarse too, and the few codes of the
        # next layer multiply what they lose: such a bias is added in float.
        apart = layer.op == "linear" and grid is not None and not grid.is_whole
        bias, weights = weights.bias, replace(weights, bias=None) if apart else weights
        end = f"{prefix}unbiased" if apart and bias is not None else product
        self.part.extend(
            lower_layer(plain, kernel, weights, source, end, prefix=prefix, input_range=grid)
        )
        if end != product and bias is not None:
            self.part.node("Add", [end, self.part.constant(f"{prefix}bias", bias)], product)
        if reshaped:
            shape = np.array([-1, *layer.output_shape[1:]], np.int64)
            self.part.node(
                "Reshape", [product, self.part.constant(f"{prefix}shape", shape)], target
            )

    def _flattened(self, tensor: str, layer: LayerSpec) -> str:
        """``[..., features]`` as rows; layers of one tensor share it."""
        if tensor not in self.flat:
            shape = np.array([-1, layer.input_shape[-1]], np.int64)
            name = self.part.constant(f"{tensor}/rows_shape", shape)
            self.flat[tensor] = self.part.node("Reshape", [tensor, name], f"{tensor}/rows")
        return self.flat[tensor]

    def _on_grid(self, tensor: str, grid: Range) -> str:
        """The tensor read through a quantize / dequantize pair."""
        if (tensor, grid) not in self.on_grid:
            prefix = f"{tensor}/grid{len(self.on_grid)}/"
            codes, real = f"{prefix}codes", f"{prefix}real"
            self.part.extend(quantize(tensor, codes, grid, prefix=f"{prefix}q_"))
            self.part.extend(dequantize(codes, real, grid, prefix=f"{prefix}d_"))
            self.on_grid[tensor, grid] = real
        return self.on_grid[tensor, grid]

    def _quantize_output(self, tensor: str, layer: str) -> None:
        """All readers take the tensor from its grid; a reader on the same grid adds nothing."""
        grid = self.parameters.output_grid(layer)
        real = self._on_grid(tensor, grid)
        self.renamed[tensor] = real
        self.on_grid[real, grid] = real
