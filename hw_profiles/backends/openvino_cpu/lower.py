"""One layer in one kernel's format as OpenVINO nodes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

from hw_profiles.backends.openvino_cpu.kernels import Kernel, kernel_of
from hw_profiles.profile import EntryKey
from quant.formats import Format, Scheme, parse_format
from spaces.choices import Choice
from spaces.layers import TRANSPOSED

SCALE = np.float32(0.05)
TYPES = {"float32": ov.Type.f32, "uint8": ov.Type.u8}


def kernel_model(key: EntryKey, copies: int, rng: np.random.Generator) -> ov.Model:
    """A model that runs the kernel of ``key`` ``copies`` times, each with weights of its own."""
    source = op.parameter(list(input_shape(key)), TYPES[key.edge_in])
    results = []
    for number in range(copies):
        # Equal conversions would be merged into one: every copy has a grid of its own.
        scale = SCALE * np.float32(1 + number / 1024)
        shared = key.op not in ("quantize", "dequantize")
        entering = _real(source, SCALE if shared else scale) if key.edge_in == "uint8" else source
        results.append(op.result(_leaving(key, _copy(key, entering, rng), scale)))
    return ov.Model(results, [source])


def input_shape(key: EntryKey) -> tuple[int, ...]:
    """Shape entering the model; linear layers are matrices ``[rows, features]``."""
    if key.op == "linear":
        return key.batch * math.prod(key.input_shape[:-1]), key.weight_shape[1]
    return key.batch * key.input_shape[0], *key.input_shape[1:]


def example_input(key: EntryKey, rng: np.random.Generator) -> Any:
    """Random values of the tensor entering."""
    if key.edge_in == "uint8":
        return rng.integers(0, 256, input_shape(key), dtype=np.uint8)
    return np.abs(rng.standard_normal(input_shape(key), dtype=np.float32))


def identity_model() -> ov.Model:
    """A model that does next to nothing: what a call costs."""
    source = op.parameter([1], ov.Type.f32)
    return ov.Model([op.result(op.relu(source))], [source])


def kernel_family(key: EntryKey) -> Kernel:
    """Family of the kernel of a key that is no conversion."""
    return kernel_of(Choice(parse_format(key.weight_format), parse_format(key.activation_format)))


def _copy(key: EntryKey, source: ov.Node, rng: np.random.Generator) -> ov.Node:
    if key.op in ("quantize", "dequantize"):
        return source
    product = _product(key, source, _weight(key, rng))
    channels = key.weight_shape[1] * key.groups if key.op in TRANSPOSED else key.weight_shape[0]
    ones = [1] * (len(key.output_shape) - 2 if key.op != "linear" else 0)
    bias = rng.standard_normal((1, channels, *ones), dtype=np.float32)
    summed = op.add(product, op.constant(bias))
    return op.relu(summed) if key.fused_with == "relu" else summed


def _product(key: EntryKey, source: ov.Node, weight: ov.Node) -> ov.Node:
    if key.op == "linear":
        return op.matmul(source, weight, False, True)
    pads = list(key.padding)
    geometry = (list(key.stride), pads, pads, list(key.dilation))
    if key.op in TRANSPOSED:
        spatial = op.constant(np.array(key.output_shape[2:], dtype=np.int64))
        build = (
            op.group_convolution_backprop_data
            if key.groups > 1
            else (op.convolution_backprop_data)
        )
        strides, begin, end, dilations = geometry
        return build(
            source, weight, strides, spatial, pads_begin=begin, pads_end=end, dilations=dilations
        )
    if key.groups > 1:
        strides, begin, end, dilations = geometry
        return op.group_convolution(source, weight, strides, begin, end, dilations)
    return op.convolution(source, weight, *geometry)


def _weight(key: EntryKey, rng: np.random.Generator) -> ov.Node:
    shape = key.weight_shape
    if key.groups > 1:
        shape = (key.groups, shape[0] // key.groups, *shape[1:])
    family = kernel_family(key)
    if family in (Kernel.FLOAT, Kernel.BFLOAT16):
        return op.constant(SCALE * rng.standard_normal(shape, dtype=np.float32))
    if family is Kernel.INT8:
        lead = 2 if key.groups > 1 else 1
        codes = op.constant(rng.integers(-127, 128, shape, dtype=np.int8))
        scales = rng.uniform(0.001, 0.002, (*shape[:lead], *[1] * (len(shape) - lead)))
        return op.multiply(op.convert(codes, "f32"), op.constant(scales.astype(np.float32)))
    return _packed(parse_format(key.weight_format), key.weight_shape, rng)


def _packed(weight: Format, shape: tuple[int, ...], rng: np.random.Generator) -> ov.Node:
    """Codes of a linear layer, unpacked by nodes that the runtime folds into its kernel."""
    rows, columns = shape
    group = weight.group_size or columns
    grouped = (rows, columns // group, group)
    codes = op.convert(_codes(weight.bits, grouped, rng), "f32")
    if weight.scheme is Scheme.ASYMMETRIC or weight.bits < 8:
        half = np.full((*grouped[:2], 1), 1 << (weight.bits - 1), np.uint8)
        codes = op.subtract(codes, op.convert(op.constant(half), "f32"))
    scales = rng.uniform(0.001, 0.002, (*grouped[:2], 1)).astype(np.float32)
    return op.reshape(op.multiply(codes, op.constant(scales)), list(shape), False)


def _codes(bits: int, shape: tuple[int, ...], rng: np.random.Generator) -> ov.Node:
    if bits == 8:
        return op.constant(rng.integers(-127, 128, shape, dtype=np.int8))
    packed = rng.integers(0, 256, math.prod(shape) // 2, dtype=np.uint8)
    return op.constant(ov.Tensor(packed, ov.Shape(list(shape)), ov.Type.u4))


def _real(codes: ov.Node, scale: np.float32) -> ov.Node:
    return op.multiply(op.convert(codes, "f32"), op.constant(scale))


def _leaving(key: EntryKey, value: ov.Node, scale: np.float32) -> ov.Node:
    if key.edge_out != "uint8":
        return value
    top = np.float32(255) * scale
    low = np.float32(0) if key.fused_with == "relu" else -top / 2
    codes = op.fake_quantize(value, low, low + top, np.float32(0), np.float32(255), 256)
    return op.convert(codes, "u8")
