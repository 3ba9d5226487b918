"""Which kernels torch has on an NVIDIA GPU, and which of them a choice runs as."""

from __future__ import annotations

import math
from enum import StrEnum

from quant.formats import Granularity, Scheme, parse_format
from spaces.choices import FLOAT_CHOICE, Choice
from spaces.layers import LayerSpec

Capability = tuple[int, int]


class Kernel(StrEnum):
    """Families of kernels; the value is the weight's type."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    FP8 = "fp8"
    INT4 = "int4"


def _plain(weight: str, activation: str) -> Choice:
    return Choice(parse_format(weight), parse_format(activation))


FLOAT16_CHOICE = _plain("float16", "float16")
BFLOAT16_CHOICE = _plain("bfloat16", "bfloat16")
INT8_CHOICE = _plain("int8sc", "int8st")
FP8_CHOICE = _plain("fp8e4m3t", "fp8e4m3t")
INT4_GROUPS = (32, 64, 128, 256)
OLDEST = {Kernel.BFLOAT16: (8, 0), Kernel.INT4: (8, 0), Kernel.INT8: (7, 5), Kernel.FP8: (8, 9)}
"""First compute capability with the kernel; float16 and float32 run on all."""
LEAST_ROWS = 17
"""torch._int_mm wants more than 16 rows."""


def kernel_of(kernel_choice: Choice) -> Kernel:
    """Family of a choice returned by :func:`runs_as`."""
    named = {
        FLOAT_CHOICE: Kernel.FLOAT32,
        FLOAT16_CHOICE: Kernel.FLOAT16,
        BFLOAT16_CHOICE: Kernel.BFLOAT16,
        INT8_CHOICE: Kernel.INT8,
        FP8_CHOICE: Kernel.FP8,
    }
    return named.get(kernel_choice, Kernel.INT4)


def runs_as(layer: LayerSpec, choice: Choice, capability: Capability) -> Choice:
    """The kernel choice of ``layer`` when it takes ``choice``."""
    found = _wanted(layer, choice)
    family = kernel_of(found)
    if capability < OLDEST.get(family, (0, 0)):
        return FLOAT16_CHOICE if choice.weight.bits <= 16 else FLOAT_CHOICE
    return found


def supports(layer: LayerSpec, choice: Choice, capability: Capability) -> str | None:
    """None when a kernel computes in the choice's types, else why there is none."""
    kernel = runs_as(layer, choice, capability)
    own = (choice.weight.bits, choice.activation.bits)
    if (kernel.weight.bits, kernel.activation.bits) == own:
        return None
    card = ".".join(map(str, capability))
    runs = f"runs as {kernel.label}"
    return f"no {choice.label} {layer.op} kernel in torch on compute capability {card}; {runs}"


def _wanted(layer: LayerSpec, choice: Choice) -> Choice:
    weight, activation = choice.weight, choice.activation
    pair = (weight, activation)
    for plain in (FLOAT_CHOICE, FLOAT16_CHOICE, BFLOAT16_CHOICE):
        if pair == (plain.weight, plain.activation):
            return plain
    if layer.op != "linear" or not _aligned(layer):
        return BFLOAT16_CHOICE
    if str(weight).startswith("fp8e4m3") and str(activation).startswith("fp8e4m3"):
        return FP8_CHOICE
    levels = weight.has_levels or activation.has_levels
    if levels or (weight.scheme is Scheme.ASYMMETRIC and weight.bits > 4):
        return BFLOAT16_CHOICE
    if weight.granularity is Granularity.GROUP and weight.bits <= 4:
        return _int4(layer, choice)
    if weight.bits <= 8 and activation.bits <= 8 and _rows(layer) >= LEAST_ROWS:
        return BFLOAT16_CHOICE if weight.granularity is Granularity.GROUP else INT8_CHOICE
    return BFLOAT16_CHOICE


def _int4(layer: LayerSpec, choice: Choice) -> Choice:
    group = choice.weight.group_size
    if not choice.activation.is_float or group not in INT4_GROUPS:
        return BFLOAT16_CHOICE
    if layer.weight_shape[1] % max(group, 128) or layer.weight_shape[0] % 8:
        return BFLOAT16_CHOICE
    return Choice(parse_format(f"int4ug{group}"), BFLOAT16_CHOICE.activation)


def _aligned(layer: LayerSpec) -> bool:
    """Integer and fp8 products want both sizes in multiples of 16."""
    return not any(size % 16 for size in layer.weight_shape)


def _rows(layer: LayerSpec) -> int:
    return math.prod(layer.input_shape[:-1])
