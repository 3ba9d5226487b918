"""Costs that need no measurement: bytes of the packed weights and bit operations.

Size counts what a file must store: packed weight codes, per tensor, channel or group what the
format shares there (a float32 scale, of block formats 8 bits, of k-means the codebook; zero
points at the weight's own width where the format is asymmetric), and float32 biases.
BOPs are MACs times both bit-widths (van Baalen et al., Bayesian Bits, 2020).
"""

from __future__ import annotations

import math

from quant.formats import Format, Granularity
from spaces.choices import Choice
from spaces.layers import LayerSpec

BIAS_BYTES = 4


def scale_count(layer: LayerSpec, weight: Format) -> int:
    """Number of scales or codebooks of a layer's weight; 0 for float formats."""
    if weight.is_float:
        return 0
    if weight.granularity is Granularity.TENSOR:
        return 1
    if weight.granularity is Granularity.CHANNEL:
        return layer.out_channels
    inputs_per_channel = layer.weight_count // layer.out_channels
    return layer.out_channels * math.ceil(inputs_per_channel / weight.group_size)


def size_bytes(layer: LayerSpec, choice: Choice) -> int:
    """Bytes that store the layer's parameters in ``choice``, scales and biases included."""
    weight = choice.weight
    codes = math.ceil(layer.weight_count * weight.bits / 8)
    shared = math.ceil(scale_count(layer, weight) * weight.scale_bits / 8)
    bias = layer.out_channels * BIAS_BYTES if layer.bias else 0
    return codes + shared + bias


def bops(layer: LayerSpec, choice: Choice) -> int:
    """Bit operations per sample: MACs x weight bits x activation bits."""
    return layer.macs * choice.weight.bits * choice.activation.bits
