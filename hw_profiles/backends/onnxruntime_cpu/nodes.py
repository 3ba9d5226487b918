"""The nodes of an optimised graph as one-node models: what a network's time is made of.

The runtime fuses, reorders and drops nodes; what it finally executes is in the graph it saves.
Every node of that graph is keyed by all that decides its time (op, attributes, shapes, types)
and can be timed alone with optimisation off, so one timing serves every policy that contains
the node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from hw_profiles.backends.onnxruntime_cpu.session import open_optimized

LAYOUT_OPS = frozenset(
    {"Transpose", "ReorderInput", "ReorderOutput", "QuantizeLinear", "DequantizeLinear", "Reshape"}
)
"""Conversions an isolated layer pays at both ends and a network often does not."""

STREAMED_BYTES = 16 << 10
"""Constants below half a first-level cache are warm in a network as well; larger ones stream."""

Array = npt.NDArray[np.generic]
Tensors = Mapping[str, Array]


@dataclass(frozen=True)
class Node:
    """One executed node.

    Attributes:
        id: first 16 hex digits of the SHA-256 of ``text``.
        text: op, attributes, types and shapes, readable.
        op: op type.
        model: the node alone; inputs are its activations, constants are kept.
        inputs: an example of each activation it reads.
        constant_bytes: size of its constants, which stream from memory on every call.
        rows: how often each constant is used, 1 for a matrix-vector product.
    """

    id: str
    text: str
    op: str
    model: onnx.ModelProto
    inputs: Tensors
    constant_bytes: int
    rows: int


def split_nodes(optimized: onnx.ModelProto, feed: Tensors) -> list[Node]:
    """Every node of an optimised graph, in execution order.

    Args:
        optimized: as the runtime saved it.
        feed: value of each graph input; run once to learn the shapes of all tensors.
    """
    constants = {item.name: item for item in optimized.graph.initializer}
    tensors = {**feed, **_intermediates(optimized, feed)}
    shapes = {name: (tuple(item.dims), item.data_type) for name, item in constants.items()}
    return [
        _node(node, optimized, constants, shapes, tensors)
        for node in optimized.graph.node
        if node.op_type != "Constant"
    ]


def _intermediates(optimized: onnx.ModelProto, feed: Tensors) -> Tensors:
    """Runs the graph once and keeps what every node hands out."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(optimized)
    names = [name for node in exposed.graph.node for name in node.output if name]
    del exposed.graph.output[:]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    values = open_optimized(exposed).run(names, dict(feed))
    return dict(zip(names, values, strict=True))


def _node(
    node: onnx.NodeProto,
    whole: onnx.ModelProto,
    constants: Mapping[str, onnx.TensorProto],
    shapes: Mapping[str, tuple[tuple[int, ...], int]],
    tensors: Tensors,
) -> Node:
    kept = [constants[name] for name in dict.fromkeys(node.input) if name in constants]
    read = {name: tensors[name] for name in node.input if name and name not in constants}
    written = {name: tensors[name] for name in node.output if name}
    text = _text(node, shapes, {**read, **written})
    graph = helper.make_graph(
        [node], "node", [_info(*item) for item in read.items()],
        [_info(*item) for item in written.items()], kept,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=list(whole.opset_import), ir_version=10)
    sizes = [item.nbytes for item in (numpy_helper.to_array(item) for item in kept)]
    return Node(
        hashlib.sha256(text.encode()).hexdigest()[:16],
        text,
        node.op_type,
        model,
        read,
        sum(sizes),
        _rows(read),
    )


def _rows(read: Tensors) -> int:
    """Rows of the largest activation; convolutions count every pixel."""
    largest = max(read.values(), key=lambda item: item.size, default=None)
    if largest is None or not largest.ndim:
        return 1
    return int(largest.size // largest.shape[-1]) or 1


def _info(name: str, value: Array) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(name, kind, value.shape)


def _text(
    node: onnx.NodeProto,
    shapes: Mapping[str, tuple[tuple[int, ...], int]],
    tensors: Tensors,
) -> str:
    """Everything that decides a node's time, in a canonical order."""
    operands = [_operand(name, shapes, tensors) for name in node.input]
    results = [_operand(name, shapes, tensors) for name in node.output]
    attributes = sorted(f"{item.name}={_value(item)}" for item in node.attribute)
    domain = f"{node.domain}." if node.domain else ""
    return (
        f"{domain}{node.op_type}({', '.join(operands)})->({', '.join(results)})"
        f"[{' '.join(attributes)}]"
    )


def _operand(
    name: str, shapes: Mapping[str, tuple[tuple[int, ...], int]], tensors: Tensors
) -> str:
    if not name:
        return "-"
    if name in shapes:
        shape, kind = shapes[name]
        return f"const {helper.tensor_dtype_to_np_dtype(kind)}{_size(shape)}"
    return f"{tensors[name].dtype}{_size(tensors[name].shape)}"


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)).join("[]")


def _value(attribute: onnx.AttributeProto) -> str:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, onnx.TensorProto | onnx.GraphProto):
        return hashlib.sha256(value.SerializeToString()).hexdigest()[:8]
    return str(
        list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
    )


def repeated(node: Node, copies: int, *, resident: bool = False) -> onnx.ModelProto:
    """The node several times in one graph, on the same activations, each with its own constants.

    One call then streams all copies of the weights as a network does, and what a call itself
    costs is shared by the copies. Only the last result leaves the graph, so the runtime reuses
    one buffer for the others. With ``resident`` all copies share their constants, which stay in
    the nearest cache they fit in.
    """
    source = node.model.graph
    streamed = {
        item.name for item in source.initializer if not resident and _bytes(item) >= STREAMED_BYTES
    }
    constants = [item for item in source.initializer if item.name not in streamed]
    nodes, outputs = [], []
    for turn in range(copies):
        renamed = {name: f"{name}/copy{turn}" for name in streamed}
        for item in source.initializer:
            if item.name in streamed:
                # Equal weights would be packed once and shared, and nothing would stream.
                rolled = np.roll(numpy_helper.to_array(item).reshape(-1), turn)
                shaped = rolled.reshape(tuple(item.dims))
                constants.append(numpy_helper.from_array(shaped, renamed[item.name]))
        made = onnx.NodeProto()
        made.CopyFrom(source.node[0])
        made.name = f"{made.name}/copy{turn}"
        made.input[:] = [renamed.get(name, name) for name in made.input]
        made.output[:] = [name and f"{name}/copy{turn}" for name in made.output]
        nodes.append(made)
    for value in source.output:
        copied_value = onnx.ValueInfoProto()
        copied_value.CopyFrom(value)
        copied_value.name = f"{value.name}/copy{copies - 1}"
        outputs.append(copied_value)
    graph = helper.make_graph(nodes, "copies", source.input, outputs, constants)
    return helper.make_model(graph, opset_imports=list(node.model.opset_import), ir_version=10)


def _bytes(item: onnx.TensorProto) -> int:
    return int(numpy_helper.to_array(item).nbytes)


def unique(nodes: Sequence[Node]) -> Iterator[Node]:
    """The first node of every id."""
    seen: set[str] = set()
    for node in nodes:
        if node.id not in seen:
            seen.add(node.id)
            yield node


def is_memory_bound(node: Node) -> bool:
    """True when constants are used for few rows, so that streaming them decides the time."""
    return node.constant_bytes >= STREAMED_BYTES and node.rows < 8
