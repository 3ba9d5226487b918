"""Which kernels OpenVINO has on a CPU, and which of them a choice runs as.

Convolution and linear: float32, bfloat16, static int8 (unsigned activations, signed weights per
channel). Linear also: 8- and 4-bit weights with float32 activations, one scale per channel or per
group, unpacked inside the kernel. Everything else is unpacked to one of these: storage only.
"""

from __future__ import annotations

from enum import StrEnum

from quant.formats import FLOAT32, Granularity, Scheme, Timing, parse_format
from spaces.choices import FLOAT_CHOICE, Choice
from spaces.layers import TRANSPOSED, LayerSpec

INT8_CHOICE = Choice(parse_format("int8sc"), parse_format("int8ut"))
BFLOAT16_CHOICE = Choice(parse_format("bfloat16"), parse_format("bfloat16"))
GROUP = 128
PACKED = (4, 8)


class Kernel(StrEnum):
    """Families of kernels."""

    FLOAT = "float"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    PACKED = "packed"


PRECISIONS = {
    Kernel.FLOAT: frozenset({"f32"}),
    Kernel.BFLOAT16: frozenset({"bf16"}),
    Kernel.INT8: frozenset({"I8", "i8", "u8"}),
    Kernel.PACKED: frozenset({"u4", "i4", "u8", "i8"}),
}
"""What the runtime graph must say a kernel computes in (or unpacks), or it did not run."""


def kernel_of(kernel_choice: Choice) -> Kernel:
    """Family of a choice returned by :func:`runs_as`."""
    named = {FLOAT_CHOICE: Kernel.FLOAT, BFLOAT16_CHOICE: Kernel.BFLOAT16}
    named[INT8_CHOICE] = Kernel.INT8
    return named.get(kernel_choice, Kernel.PACKED)


def runs_as(layer: LayerSpec, choice: Choice) -> Choice:
    """The kernel choice of ``layer`` when it takes ``choice``."""
    weight, activation = choice.weight, choice.activation
    stored_only = weight.has_levels or activation.has_levels
    stored_only |= activation.granularity is Granularity.TOKEN
    stored_only |= "split" in choice.method.split("+")
    if (weight, activation) == (BFLOAT16_CHOICE.weight, BFLOAT16_CHOICE.activation):
        return BFLOAT16_CHOICE
    if weight.is_float or stored_only or layer.op in TRANSPOSED:
        return FLOAT_CHOICE
    if activation.is_float:
        return _packed(layer, choice)
    grouped = weight.granularity is Granularity.GROUP
    if weight.scheme is Scheme.ASYMMETRIC or grouped or activation.timing is not Timing.STATIC:
        return FLOAT_CHOICE
    return INT8_CHOICE


def supports(layer: LayerSpec, choice: Choice) -> str | None:
    """None when a kernel computes in the choice's widths, else why there is none."""
    kernel = runs_as(layer, choice)
    own = (choice.weight.bits, choice.activation.bits)
    if (kernel.weight.bits, kernel.activation.bits) == own:
        return None
    return f"no {choice.label} {layer.op} kernel in OpenVINO's CPU plugin; runs as {kernel.label}"


def _packed(layer: LayerSpec, choice: Choice) -> Choice:
    weight = choice.weight
    if layer.op != "linear":
        return FLOAT_CHOICE
    bits = next(width for width in PACKED if width >= weight.bits)
    group = weight.group_size if weight.granularity is Granularity.GROUP else 0
    if group and layer.weight_shape[1] % group:
        return FLOAT_CHOICE
    scheme = Scheme.ASYMMETRIC if weight.scheme is Scheme.ASYMMETRIC else Scheme.SYMMETRIC
    slices = f"g{group}" if group else "c"
    return Choice(parse_format(f"int{bits}{scheme}{slices}"), FLOAT32)
