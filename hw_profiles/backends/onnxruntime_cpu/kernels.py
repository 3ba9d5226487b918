"""Which kernels ONNX Runtime has on a CPU, and which of them a choice runs as.

Convolution: float32 and static int8 (unsigned activations, signed weights). Linear: those,
dynamic int8, and 8/4/2-bit weights with float32 edges (MatMulNBits). Everything else is
unpacked to one of these: storage only.
"""

from __future__ import annotations

from enum import StrEnum

from quant.formats import (
    FLOAT32,
    Format,
    Granularity,
    Scheme,
    Timing,
    parse_format,
)
from spaces.choices import FLOAT_CHOICE, Choice
from spaces.layers import TRANSPOSED, LayerSpec

BLOCK = 128
"""Weights per scale of MatMulNBits; smaller blocks are 1.3 to 4 times slower."""

NBITS = (2, 4, 8)
STATIC_CHOICE = Choice(parse_format("int8sc"), parse_format("int8ut"))
DYNAMIC_CHOICE = Choice(parse_format("int8sc"), parse_format("int8ut@dynamic"))


class Kernel(StrEnum):
    """Families of kernels, told apart by the ops the runtime executes."""

    FLOAT = "float"
    INT8_STATIC = "int8_static"
    INT8_DYNAMIC = "int8_dynamic"
    NBITS = "nbits"


EXPECTED_OPS: dict[Kernel, frozenset[str]] = {
    Kernel.FLOAT: frozenset({"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul"}),
    Kernel.INT8_STATIC: frozenset({"QLinearConv", "QGemm", "QLinearMatMul"}),
    Kernel.INT8_DYNAMIC: frozenset({"DynamicQuantizeMatMul", "MatMulIntegerToFloat"}),
    Kernel.NBITS: frozenset({"MatMulNBits"}),
}
"""One of these must be in the optimised graph, or the low-bit kernel did not run."""


def kernel_of(kernel_choice: Choice) -> Kernel:
    """Family of a choice returned by :func:`runs_as`."""
    if kernel_choice == FLOAT_CHOICE:
        return Kernel.FLOAT
    if kernel_choice == STATIC_CHOICE:
        return Kernel.INT8_STATIC
    return Kernel.INT8_DYNAMIC if kernel_choice == DYNAMIC_CHOICE else Kernel.NBITS


def runs_as(layer: LayerSpec, choice: Choice) -> Choice:
    """The kernel choice of ``layer`` when it takes ``choice``; of methods, ``split`` counts."""
    weight, activation = choice.weight, choice.activation
    stored_only = weight.has_levels or activation.has_levels
    # No kernel takes one scale per token, nor inputs that a method duplicates.
    stored_only |= activation.granularity is Granularity.TOKEN
    stored_only |= "split" in choice.method.split("+")
    if weight.is_float or stored_only or layer.op in TRANSPOSED:
        return FLOAT_CHOICE
    if activation.is_float or _blockwise_dynamic(weight, activation):
        return _weight_only(layer, weight)
    if weight.scheme is Scheme.ASYMMETRIC or weight.granularity is Granularity.GROUP:
        return FLOAT_CHOICE
    if activation.timing is Timing.STATIC:
        return STATIC_CHOICE
    return DYNAMIC_CHOICE if layer.op == "linear" else FLOAT_CHOICE


def supports(layer: LayerSpec, choice: Choice) -> str | None:
    """None when a kernel computes in the choice's widths, else why there is none."""
    kernel = runs_as(layer, choice)
    if kernel.weight.bits == choice.weight.bits and _same_activation(kernel, choice):
        return None
    return f"no {choice.label} {layer.op} kernel in ONNX Runtime's CPU provider; runs as " + (
        kernel.label
    )


def _blockwise_dynamic(weight: Format, activation: Format) -> bool:
    """MatMulNBits at accuracy level 4 quantizes its activations per block at run time."""
    return (
        weight.granularity is Granularity.GROUP
        and activation.timing is Timing.DYNAMIC
        and not activation.is_float
    )


def _weight_only(layer: LayerSpec, weight: Format) -> Choice:
    if layer.op != "linear":
        return FLOAT_CHOICE
    bits = next(width for width in NBITS if width >= weight.bits)
    group = weight.group_size if weight.granularity is Granularity.GROUP else BLOCK
    if group < 16 or group & (group - 1):
        return FLOAT_CHOICE
    scheme = Scheme.ASYMMETRIC if weight.scheme is Scheme.ASYMMETRIC else Scheme.SYMMETRIC
    return Choice(parse_format(f"int{bits}{scheme}g{min(group, BLOCK)}"), FLOAT32)


def _same_activation(kernel: Choice, choice: Choice) -> bool:
    if kernel_of(kernel) is Kernel.NBITS:
        return choice.activation.is_float or choice.activation.bits == 8
    return kernel.activation.bits == choice.activation.bits
