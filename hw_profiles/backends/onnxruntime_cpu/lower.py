"""One layer in one kernel's format as ONNX nodes: the single place where tables and export agree.

What ONNX Runtime needs to pick its low-bit kernels (each a factor of two or more when missed):
unsigned activations with signed per-channel weights; zero point 0 after a ReLU, else the ReLU
is not absorbed and the convolution stays float; exactly DynamicQuantizeLinear, MatMulInteger,
Cast, Mul, Add for dynamic int8; ``accuracy_level=4`` and blocks of 128 for MatMulNBits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from hw_profiles.backends.onnxruntime_cpu.kernels import Kernel

OPSET = 21
MICROSOFT = "com.microsoft"
Array = npt.NDArray[Any]


class Geometry(Protocol):
    """What lowering reads of a layer; :class:`LayerSpec` and :class:`EntryKey` both have it."""

    @property
    def op(self) -> str: ...  # noqa: D102
    @property
    def weight_shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def input_shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def output_shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def stride(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def padding(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dilation(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def groups(self) -> int: ...  # noqa: D102
    @property
    def fused_with(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Range:
    """Affine uint8 grid of a tensor: ``real = scale * (code - zero_point)``.

    Attributes:
        scale: step, positive.
        zero_point: code of real zero.
        low: smallest code in use; grids of fewer than 8 bits are clipped to ``low .. high``.
        high: greatest code in use.
    """

    scale: float
    zero_point: int
    low: int = 0
    high: int = 255

    @property
    def is_whole(self) -> bool:
        """Whether all 256 codes are in use."""
        return (self.low, self.high) == (0, 255)


@dataclass(frozen=True, slots=True)
class Weights:
    """Parameters of a layer as a kernel stores them.

    Attributes:
        values: float32 weights, or signed integer codes as int8, in the layer's own shape.
        bias: float32 ``[out]`` or None.
        scale: float32 scales; ``[out]`` per channel, ``[out, blocks]`` for blockwise kernels,
            None for float weights.
        zero_point: codes of zero ``[out, blocks]`` for asymmetric blockwise weights; ``values``
            are then unsigned codes.
        bits: width of the codes.
        block: weights per scale of a blockwise kernel.
    """

    values: Array
    bias: Array | None = None
    scale: Array | None = None
    zero_point: Array | None = None
    bits: int = 32
    block: int = 128


@dataclass(slots=True)
class Fragment:
    """Nodes and constants of a part of a graph, in order."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, value: Array) -> str:
        """Adds a constant and returns its name."""
        self.constants.append(numpy_helper.from_array(np.require(value, requirements="C"), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Adds a node named after its output and returns that output."""
        domain = attributes.pop("domain", "")
        made = helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes)
        self.nodes.append(made)
        return output

    def extend(self, other: Fragment) -> None:
        """Appends another fragment."""
        self.nodes += other.nodes
        self.constants += other.constants


def lower_layer(
    layer: Geometry,
    kernel: Kernel,
    weights: Weights,
    source: str,
    target: str,
    *,
    prefix: str,
    input_range: Range | None = None,
) -> Fragment:
    """Nodes of one layer, from a float tensor to a float tensor.

    A static int8 layer stands between a DequantizeLinear and a QuantizeLinear, which the caller
    adds (:func:`dequantize`, :func:`quantize`): the runtime fuses the three.

    Args:
        layer: geometry; linear layers take a matrix ``[rows, in]``.
        kernel: which kernel family to build for.
        weights: parameters in that family's form.
        source: float tensor entering.
        target: name of the float tensor to produce.
        prefix: prepended to every name made here.
        input_range: grid of the input of a static int8 layer, needed for its bias.
    """
    part = Fragment()
    relu = layer.fused_with == "relu"
    product = f"{prefix}linear" if relu else target
    _BUILDERS[kernel](part, layer, weights, source, product, prefix, input_range)
    if relu:
        part.node("Relu", [product], target)
    return part


def quantize(source: str, target: str, grid: Range, *, prefix: str) -> Fragment:
    """One QuantizeLinear to uint8, and a Clip of its codes where not all are in use."""
    part = Fragment()
    codes = target if grid.is_whole else f"{prefix}unclipped"
    part.node("QuantizeLinear", [source, *_grid(part, grid, prefix)], codes)
    if not grid.is_whole:
        ends = [
            part.constant(f"{prefix}{name}", np.array(end, np.uint8))
            for name, end in (("low", grid.low), ("high", grid.high))
        ]
        part.node("Clip", [codes, *ends], target)
    return part


def dequantize(source: str, target: str, grid: Range, *, prefix: str) -> Fragment:
    """One DequantizeLinear from uint8."""
    part = Fragment()
    part.node("DequantizeLinear", [source, *_grid(part, grid, prefix)], target)
    return part


def _grid(part: Fragment, grid: Range, prefix: str) -> list[str]:
    scale = part.constant(f"{prefix}scale", np.array(grid.scale, np.float32))
    zero = part.constant(f"{prefix}zero_point", np.array(grid.zero_point, np.uint8))
    return [scale, zero]


def _conv_attributes(layer: Geometry) -> dict[str, Any]:
    return {
        "kernel_shape": list(layer.weight_shape[2:]),
        "strides": list(layer.stride),
        "pads": list(layer.padding) * 2,
        "dilations": list(layer.dilation),
        "group": layer.groups,
    }


def _output_padding(layer: Geometry) -> list[int]:
    """Rows a transposed convolution adds at the end, per spatial axis."""
    axes = zip(
        layer.input_shape[2:],
        layer.output_shape[2:],
        layer.weight_shape[2:],
        layer.stride,
        layer.padding,
        layer.dilation,
        strict=True,
    )
    return [
        out - ((size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1)
        for size, out, kernel, stride, padding, dilation in axes
    ]


def _apply(part: Fragment, layer: Geometry, inputs: list[str], target: str) -> None:
    """The layer's float op; the runtime's fusion turns it into an integer one."""
    if layer.op == "linear":
        part.node("Gemm", inputs, target, transB=1)
    elif layer.op.startswith("conv_transpose"):
        extra = {"output_padding": _output_padding(layer)}
        part.node("ConvTranspose", inputs, target, **_conv_attributes(layer), **extra)
    else:
        part.node("Conv", inputs, target, **_conv_attributes(layer))


def _float(
    part: Fragment,
    layer: Geometry,
    weights: Weights,
    source: str,
    target: str,
    prefix: str,
    _input_range: Range | None,
) -> None:
    inputs = [source, part.constant(f"{prefix}weight", weights.values)]
    if weights.bias is not None:
        inputs.append(part.constant(f"{prefix}bias", weights.bias))
    _apply(part, layer, inputs, target)


def _int8_static(
    part: Fragment,
    layer: Geometry,
    weights: Weights,
    source: str,
    target: str,
    prefix: str,
    input_range: Range | None,
) -> None:
    scale = _required(weights.scale, "weight scales")
    codes = part.constant(f"{prefix}weight_codes", weights.values)
    scales = part.constant(f"{prefix}weight_scale", scale)
    zeros = part.constant(f"{prefix}weight_zero", np.zeros(scale.shape, np.int8))
    inputs = [
        source,
        part.node("DequantizeLinear", [codes, scales, zeros], f"{prefix}weight", axis=0),
    ]
    if weights.bias is not None:
        inputs.append(_int32_bias(part, weights.bias, scale, input_range, prefix))
    _apply(part, layer, inputs, target)


def _int32_bias(
    part: Fragment, bias: Array, scale: Array, input_range: Range | None, prefix: str
) -> str:
    """Bias on the accumulator's grid: the runtime fuses it only in this form."""
    if input_range is None:
        msg = "a static int8 layer with a bias needs the range of its input"
        raise ValueError(msg)
    step = (scale * np.float32(input_range.scale)).astype(np.float32)
    limits = np.iinfo(np.int32)
    codes = np.clip(np.rint(bias.astype(np.float64) / step), limits.min, limits.max)
    names = [
        part.constant(f"{prefix}bias_codes", codes.astype(np.int32)),
        part.constant(f"{prefix}bias_scale", step),
        part.constant(f"{prefix}bias_zero", np.zeros(step.shape, np.int32)),
    ]
    return part.node("DequantizeLinear", names, f"{prefix}bias", axis=0)


def _int8_dynamic(
    part: Fragment,
    _layer: Geometry,
    weights: Weights,
    source: str,
    target: str,
    prefix: str,
    _input_range: Range | None,
) -> None:
    scale = _required(weights.scale, "weight scales")
    outputs = [f"{prefix}codes", f"{prefix}codes_scale", f"{prefix}codes_zero"]
    name = f"{prefix}quantize"
    part.nodes.append(helper.make_node("DynamicQuantizeLinear", [source], outputs, name=name))
    codes = part.constant(f"{prefix}weight_codes", weights.values.T)
    zero = part.constant(f"{prefix}weight_zero", np.zeros(scale.shape, np.int8))
    product = part.node("MatMulInteger", [outputs[0], codes, outputs[2], zero], f"{prefix}product")
    cast = part.node("Cast", [product], f"{prefix}cast", to=TensorProto.FLOAT)
    step = [outputs[1], part.constant(f"{prefix}weight_scale", scale)]
    scales = part.node("Mul", step, f"{prefix}scales")
    has_bias = weights.bias is not None
    scaled = part.node("Mul", [cast, scales], f"{prefix}scaled" if has_bias else target)
    if weights.bias is not None:
        part.node("Add", [scaled, part.constant(f"{prefix}bias", weights.bias)], target)


def _nbits(
    part: Fragment,
    layer: Geometry,
    weights: Weights,
    source: str,
    target: str,
    prefix: str,
    _input_range: Range | None,
) -> None:
    out_features, in_features = layer.weight_shape
    scale = _required(weights.scale, "block scales")
    inputs = [
        source,
        part.constant(f"{prefix}weight_codes", pack_blocks(weights)),
        part.constant(f"{prefix}weight_scale", scale.reshape(-1)),
    ]
    if weights.zero_point is not None:
        packed = pack_bits(weights.zero_point.astype(np.uint8), weights.bits)
        inputs.append(part.constant(f"{prefix}weight_zero", packed.reshape(-1)))
    attributes = {
        "K": in_features,
        "N": out_features,
        "bits": weights.bits,
        "block_size": weights.block,
        "accuracy_level": 4,
        "domain": MICROSOFT,
    }
    product = target if weights.bias is None else f"{prefix}product"
    part.node("MatMulNBits", inputs, product, **attributes)
    if weights.bias is not None:
        part.node("Add", [product, part.constant(f"{prefix}bias", weights.bias)], target)


def pack_blocks(weights: Weights) -> Array:
    """Codes ``[out, in]`` as MatMulNBits stores them: uint8 ``[out, blocks, bytes per block]``.

    Signed codes are shifted by half the range, the kernel's default zero point; the last block
    is padded with zeros of the grid.
    """
    half = 1 << (weights.bits - 1)
    signed = weights.zero_point is None
    codes = weights.values.astype(np.int16) + (half if signed else 0)
    out_features, in_features = codes.shape
    blocks = -(-in_features // weights.block)
    padded = np.full((out_features, blocks * weights.block), half, dtype=np.uint8)
    padded[:, :in_features] = codes.astype(np.uint8)
    return pack_bits(padded.reshape(out_features, blocks, weights.block), weights.bits)


def pack_bits(codes: Array, bits: int) -> Array:
    """Packs the last axis of uint8 ``codes``, lowest bits first; 8-bit codes are unchanged."""
    per_byte = 8 // bits
    short = -codes.shape[-1] % per_byte
    widths = [(0, 0)] * (codes.ndim - 1) + [(0, short)]
    padded = np.pad(codes, widths).reshape(*codes.shape[:-1], -1, per_byte)
    shifts = (np.arange(per_byte) * bits).astype(np.uint8)
    packed: Array = np.bitwise_or.reduce(padded << shifts, axis=-1).astype(np.uint8)
    return packed


def _required(value: Array | None, what: str) -> Array:
    if value is None:
        msg = f"an integer kernel needs {what}"
        raise ValueError(msg)
    return value


_BUILDERS = {
    Kernel.FLOAT: _float,
    Kernel.INT8_STATIC: _int8_static,
    Kernel.INT8_DYNAMIC: _int8_dynamic,
    Kernel.NBITS: _nbits,
}
