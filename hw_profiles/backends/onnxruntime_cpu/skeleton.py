"""A model as an ONNX graph with one placeholder per quantizable layer.

PyTorch's exporter translates everything between the layers; each layer itself becomes a node
``bitfront::Layer`` that :mod:`~hw_profiles.backends.onnxruntime_cpu.whole` replaces by the nodes
of its kernel. Tables, validation and export thus share one translation of the model.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from hw_profiles.backends.onnxruntime_cpu.lower import OPSET
from hw_profiles.backends.onnxruntime_cpu.models import INPUT, OUTPUT
from hw_profiles.backends.onnxruntime_cpu.session import BATCH_AXIS
from quant.errors import UsageError
from quant.folding import fold_batch_norm
from spaces.layers import LayerSpec

DOMAIN, PLACEHOLDER = "bitfront", "Layer"
EXPORT_OPSET = min(OPSET, 20)
"""Newest opset of PyTorch's tracing exporter."""
PASSED = ("Identity",)
"""Ops between a layer and its ReLU that leave nothing behind (folded batch norms)."""


@dataclass(frozen=True)
class Skeleton:
    """A float graph whose layers are placeholders.

    Attributes:
        model: nodes of domain ``bitfront`` stand for layers; their attribute ``name`` tells which.
        layers: the layers by name, each present in the graph.
    """

    model: onnx.ModelProto
    layers: Mapping[str, LayerSpec]

    @cached_property
    def readers(self) -> Mapping[str, tuple[onnx.NodeProto, ...]]:
        """Nodes that read each tensor."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.model.graph.node:
            for name in dict.fromkeys(node.input):
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @cached_property
    def targets(self) -> Mapping[str, str]:
        """Tensor each layer hands out."""
        nodes = ((layer_name(node), node) for node in self.model.graph.node)
        return {name: str(node.output[0]) for name, node in nodes if name is not None}

    def behind_relu(self, tensor: str) -> str:
        """The tensor to quantize behind a convolution: after its ReLU when that alone reads it."""
        readers = self.readers.get(tensor, ())
        if len(readers) != 1 or tensor in self.outputs:
            return tensor
        (reader,) = readers
        if reader.op_type in PASSED:
            return self.behind_relu(reader.output[0])
        return str(reader.output[0]) if reader.op_type == "Relu" else tensor

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Tensors the graph hands out."""
        return frozenset(value.name for value in self.model.graph.output)


def layer_name(node: onnx.NodeProto) -> str | None:
    """Name of the layer a node stands for, None for all other nodes."""
    if node.domain != DOMAIN or node.op_type != PLACEHOLDER:
        return None
    return str(node.attribute[0].s.decode())


def export_skeleton(
    model: nn.Module,
    layers: Sequence[LayerSpec],
    example_input: Tensor,
    *,
    dynamic_batch: bool = False,
) -> Skeleton:
    """Translates everything but ``layers``; batch norms are folded, ``model`` is not changed.

    Args:
        model: float32; every layer is one of its modules.
        layers: what becomes a placeholder.
        example_input: ``[batch, ...]``; its batch size is kept unless ``dynamic_batch``.
        dynamic_batch: leave the first axis of input and output open.

    Raises:
        UsageError: the exporter does not know an operator of the model, or a layer is never
            called.
    """
    copy = fold_batch_norm(model).model.eval()
    for parameter in copy.parameters():
        parameter.requires_grad_(False)
    for spec in layers:
        parent, _, child = spec.name.rpartition(".")
        owner = copy.get_submodule(parent)
        setattr(owner, child, _Placeholder(spec, copy.get_submodule(spec.name), dynamic_batch))
    exported = _export(copy, example_input, dynamic_batch)
    found = {layer_name(node) for node in exported.graph.node}
    lost = [spec.name for spec in layers if spec.name not in found]
    if lost:
        raise UsageError(
            f"layer '{lost[0]}' is not in the exported graph",
            where="model export",
            expected="every quantizable layer to be called as a module",
        )
    return Skeleton(exported, {spec.name: spec for spec in layers})


def _export(model: nn.Module, example: Tensor, dynamic_batch: bool) -> onnx.ModelProto:
    buffer = io.BytesIO()
    axes = {INPUT: {0: BATCH_AXIS}, OUTPUT: {0: BATCH_AXIS}} if dynamic_batch else None
    try:
        with _quiet(), torch.no_grad():
            torch.onnx.export(
                model,
                (example,),
                buffer,  # type: ignore[arg-type]  # the tracing exporter takes streams
                dynamo=False,
                opset_version=EXPORT_OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes=axes,
                custom_opsets={DOMAIN: 1},
            )
    except Exception as cause:  # the exporter raises many kinds for models it cannot translate
        raise UsageError(
            f"the model cannot be translated to ONNX: {str(cause).strip().splitlines()[0]}",
            where="model export",
            expected="operators of the ONNX standard between the layers",
            fix="replace the operator, or search with a published table (hw=...)",
        ) from cause
    return onnx.load_from_string(buffer.getvalue())


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter repeats that it is the older of two; it is the one that takes placeholders."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class _Mark(torch.autograd.Function):
    """Computes the layer when run, leaves a placeholder when exported."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, placeholder: _Placeholder) -> Tensor:
        result: Tensor = placeholder.layer(x)
        return result

    @staticmethod
    def symbolic(graph: Any, x: Any, placeholder: _Placeholder) -> Any:
        spec = placeholder.spec
        made = graph.op(f"{DOMAIN}::{PLACEHOLDER}", x, name_s=spec.name)
        sizes = x.type().sizes()
        batch = sizes[0] if sizes and not placeholder.dynamic_batch else None
        made.setType(x.type().with_sizes([batch, *spec.output_shape[1:]]))
        return made


class _Placeholder(nn.Module):
    def __init__(self, spec: LayerSpec, layer: nn.Module, dynamic_batch: bool) -> None:
        super().__init__()
        self.spec, self.dynamic_batch = spec, dynamic_batch
        object.__setattr__(self, "layer", layer)  # no submodule: its weights must not be exported

    layer: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = _Mark.apply(x, self)  # type: ignore[no-untyped-call]
        return result
