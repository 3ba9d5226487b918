"""Size of a policy with Huffman-coded weights, which only the weights themselves can tell.

Every layer's codes get a Huffman code of their own (see :mod:`quant.codebook.huffman`); scales,
codebooks and biases are as in :mod:`hw_profiles.footprint`. No runtime computes in coded weights:
this is what a download weighs.
"""

from __future__ import annotations

from hw_profiles.footprint import size_bytes
from quant.codebook.huffman import huffman_bits
from quant.model import QuantizedModel
from quant.weights import Rounder
from spaces.choices import Choice
from spaces.layers import LayerSpec
from spaces.policy import Policy
from spaces.space import SearchSpace


def coded_bytes(space: SearchSpace, quantized: QuantizedModel, policy: Policy) -> int:
    """Bytes of all layers; never more than one byte a layer above the plain size."""
    return sum(_layer_bytes(layer, quantized, policy[layer.name]) for layer in space.layers)


def _layer_bytes(layer: LayerSpec, quantized: QuantizedModel, choice: Choice) -> int:
    plain = size_bytes(layer, choice)
    # Plain floats are not coded; split channels have no codes in the weight's own shape.
    if choice.weight.is_float or "split" in choice.method.split("+"):
        return plain
    key = (layer.name, choice.weight, choice.method)
    quantizer = quantized.weight_quantizer(*key)
    codes = quantizer.codes(quantized.weight(*key))
    width = _code_bits(quantizer)
    return plain - (codes.numel() * width - huffman_bits(codes, width)) // 8


def _code_bits(quantizer: Rounder) -> int:
    fmt = quantizer.fmt
    return fmt.bits * fmt.dim // fmt.stages
