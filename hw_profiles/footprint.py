"""Costs that need no measurement: bytes of the packed weights and bit operations.

Size counts what a file must store: packed weight codes, per tensor, channel or group what the
format shares there (a float32 scale, of block formats 8 bits, of codebooks their numbers; zero
points at the weight's own width where the format is asymmetric), and float32 biases. Inputs that
the method ``split`` duplicates count in full.
BOPs are MACs times both bit-widths (van Baalen et al., Bayesian Bits, 2020).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from quant.formats import Format, Granularity
from quant.ptq.names import extra_channels, splits
from spaces.choices import Choice
from spaces.layers import LayerSpec

BIAS_BYTES = 4


def scale_count(layer: LayerSpec, weight: Format) -> int:
    """Number of scales or codebooks of a layer's weight; 0 for float formats."""
    if weight.is_float:
        return 0
    if weight.kind in ("pq", "rpq"):
        return math.ceil(_inputs(layer) / weight.dim)
    if weight.granularity is Granularity.TENSOR:
        return 1
    if weight.granularity is Granularity.CHANNEL:
        return layer.out_channels
    if weight.granularity is Granularity.ROWS:
        return math.ceil(layer.out_channels / weight.group_size)
    return layer.out_channels * math.ceil(_inputs(layer) / weight.group_size)


def size_bytes(layer: LayerSpec, choice: Choice) -> int:
    """Bytes that store the layer's parameters in ``choice``, scales and biases included."""
    weight = choice.weight
    codes = math.ceil(_stored_weights(layer, choice) * weight.bits / 8)
    shared = math.ceil(scale_count(layer, weight) * weight.scale_bits / 8)
    bias = layer.out_channels * BIAS_BYTES if layer.bias else 0
    return codes + shared + bias


def float_bytes(layers: Iterable[LayerSpec]) -> int:
    """Bytes of all weights in float32: whether a network fits in a cache."""
    return sum(4 * math.prod(layer.weight_shape) for layer in layers)


def bops(layer: LayerSpec, choice: Choice) -> int:
    """Bit operations per sample: MACs x weight bits x activation bits."""
    macs = layer.macs
    if _splits(layer, choice):
        macs = macs * (_inputs(layer) + _extra_inputs(layer)) // _inputs(layer)
    return macs * choice.weight.bits * choice.activation.bits


def peak_bytes(layer: LayerSpec, choice: Choice) -> int:
    """Bytes of the tensors that enter and leave the layer, one sample, at its input's width.

    What a device without caches must hold to run this layer (Rusci et al., Memory-driven mixed
    low precision quantization, arXiv 1905.13082, eq. 7); a policy needs the largest over its
    layers. Tensors kept for residual additions and scratch memory of kernels do not count.
    """
    elements = math.prod(layer.input_shape) + math.prod(layer.output_shape)
    return math.ceil(elements * choice.activation.bits / 8)


def _stored_weights(layer: LayerSpec, choice: Choice) -> int:
    """Weights with a code of their own: vectors are padded, split inputs stored twice."""
    weight = choice.weight
    if weight.is_vector:
        return layer.out_channels * math.ceil(_inputs(layer) / weight.dim) * weight.dim
    extra = _extra_inputs(layer) if _splits(layer, choice) else 0
    return layer.weight_count + layer.out_channels * extra


def _inputs(layer: LayerSpec) -> int:
    """Weights of one output channel."""
    return layer.weight_count // layer.out_channels


def _splits(layer: LayerSpec, choice: Choice) -> bool:
    return "split" in choice.method.split("+") and splits(layer.op, layer.groups)


def _extra_inputs(layer: LayerSpec) -> int:
    """Weights of one output channel that channel splitting adds."""
    features = layer.weight_shape[1]
    return extra_channels(features) * (_inputs(layer) // features)
