"""One-entry ONNX models with random weights: what is handed to the runtime to be timed."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from hw_profiles.backends.onnxruntime_cpu.kernels import Kernel, kernel_of
from hw_profiles.backends.onnxruntime_cpu.lower import (
    MICROSOFT,
    OPSET,
    Fragment,
    Geometry,
    Range,
    Weights,
    dequantize,
    lower_layer,
    quantize,
)
from hw_profiles.profile import EntryKey
from quant.formats import Scheme, parse_format
from spaces.choices import Choice
from spaces.layers import TRANSPOSED

INPUT, OUTPUT = "input", "output"
TYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}
SCALE = 0.05


def kernel_model(key: EntryKey, rng: np.random.Generator) -> onnx.ModelProto:
    """A model that runs the kernel of ``key`` once, with weights drawn from ``rng``."""
    shapes = tensor_shapes(key)
    if key.op in ("quantize", "dequantize"):
        make = quantize if key.op == "quantize" else dequantize
        part = make(INPUT, OUTPUT, Range(SCALE, 128), prefix="edge_")
    else:
        part = _layer_part(key, rng)
    return finish(part, (shapes[0], key.edge_in), (shapes[1], key.edge_out))


def tensor_shapes(key: EntryKey) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Input and output shape of the model; linear layers are matrices ``[rows, features]``."""
    if key.op == "linear":
        rows = key.batch * math.prod(key.input_shape[:-1])
        return (rows, key.weight_shape[1]), (rows, key.weight_shape[0])
    batched = [(key.batch * shape[0], *shape[1:]) for shape in (key.input_shape, key.output_shape)]
    return batched[0], batched[1]


def example_input(key: EntryKey, rng: np.random.Generator) -> Any:
    """Random values of the tensor entering the model of ``key``."""
    shape = tensor_shapes(key)[0]
    if key.edge_in == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return np.abs(rng.standard_normal(shape, dtype=np.float32))


def identity_model(count: int = 1) -> onnx.ModelProto:
    """A chain of ``count`` nodes that do nothing: what calls and node dispatch cost."""
    part = Fragment()
    names = [INPUT, *(f"step{i}" for i in range(count - 1)), OUTPUT]
    for source, target in pairwise(names):
        part.node("Identity", [source], target)
    return finish(part, ((1,), "float32"), ((1,), "float32"))


def finish(
    part: Fragment, source: tuple[tuple[int, ...], str], target: tuple[tuple[int, ...], str]
) -> onnx.ModelProto:
    """Wraps nodes into a checked model with one input and one output ``(shape, type)``."""
    graph = helper.make_graph(
        part.nodes,
        "kernel",
        [helper.make_tensor_value_info(INPUT, TYPES[source[1]], source[0])],
        [helper.make_tensor_value_info(OUTPUT, TYPES[target[1]], target[0])],
        part.constants,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def layer_weights(layer: Geometry, kernel: Choice, rng: np.random.Generator) -> Weights:
    """Random weights in the form ``kernel`` stores them; values do not matter for time."""
    weight, shape = kernel.weight, layer.weight_shape
    bias = rng.standard_normal(_out_channels(layer)).astype(np.float32)
    if weight.is_float:
        return Weights(_normal(shape, rng), bias)
    if not weight.group_size:
        codes = rng.integers(-127, 128, shape, dtype=np.int8)
        return Weights(codes, bias, _scales((len(bias),), rng), bits=weight.bits)
    blocks = (len(bias), -(-shape[1] // weight.group_size))
    asymmetric = weight.scheme is Scheme.ASYMMETRIC
    low, high = weight.qmin, weight.qmax + 1
    return Weights(
        rng.integers(low, high, shape, dtype=np.int16),
        bias,
        _scales(blocks, rng),
        rng.integers(low, high, blocks, dtype=np.int16) if asymmetric else None,
        weight.bits,
        weight.group_size,
    )


def _layer_part(key: EntryKey, rng: np.random.Generator) -> Fragment:
    choice = Choice(parse_format(key.weight_format), parse_format(key.activation_format))
    kernel, weights = kernel_of(choice), layer_weights(key, choice, rng)
    if kernel is not Kernel.INT8_STATIC:
        return lower_layer(key, kernel, weights, INPUT, OUTPUT, prefix="layer_")
    # Convolutions mostly follow a ReLU (zero point 0), linear layers a normalisation.
    entering = Range(SCALE, 128 if key.op == "linear" else 0)
    leaving = Range(SCALE, 0 if key.fused_with == "relu" else 128)
    part = dequantize(INPUT, "real_input", entering, prefix="in_")
    target = OUTPUT if key.edge_out == "float32" else "real_output"
    body = lower_layer(
        key, kernel, weights, "real_input", target, prefix="layer_", input_range=entering
    )
    part.extend(body)
    if target != OUTPUT:
        part.extend(quantize(target, OUTPUT, leaving, prefix="out_"))
    return part


def _out_channels(key: Geometry) -> int:
    if key.op in TRANSPOSED:
        return key.weight_shape[1] * key.groups
    return key.weight_shape[0]


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    return (rng.standard_normal(shape, dtype=np.float32) * np.float32(SCALE)).astype(np.float32)


def _scales(shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    return rng.uniform(0.001, 0.002, shape).astype(np.float32)
