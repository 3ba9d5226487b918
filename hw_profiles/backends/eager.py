"""Layers as eager torch calls, for CPU and GPU."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hw_profiles.profile import EntryKey
from spaces.layers import TRANSPOSED

Layer = Callable[[Tensor], Tensor]
_CONVOLUTIONS: dict[str, Callable[..., Tensor]] = {
    "conv1d": F.conv1d,
    "conv2d": F.conv2d,
    "conv3d": F.conv3d,
    "conv_transpose1d": F.conv_transpose1d,
    "conv_transpose2d": F.conv_transpose2d,
    "conv_transpose3d": F.conv_transpose3d,
}


def entering(key: EntryKey, dtype: torch.dtype, device: str, generator: torch.Generator) -> Tensor:
    """Random tensor entering the layer of ``key``; linear layers take ``[rows, in]``."""
    shape = (key.batch * key.input_shape[0], *key.input_shape[1:])
    if key.op == "linear":
        shape = (key.batch * math.prod(key.input_shape[:-1]), key.input_shape[-1])
    return torch.randn(shape, generator=generator).to(device, dtype)


def float_layer(
    key: EntryKey, dtype: torch.dtype, device: str, generator: torch.Generator
) -> Layer:
    """The layer of ``key`` in a float type with random weights, its ReLU included."""

    def drawn(*shape: int) -> Tensor:
        return (0.05 * torch.randn(shape, generator=generator)).to(device, dtype)

    weight = drawn(*key.weight_shape)
    transposed = key.op in TRANSPOSED
    bias = drawn(key.weight_shape[1] * key.groups if transposed else key.weight_shape[0])
    if key.op == "linear":
        return _behind(key, lambda x: F.linear(x, weight, bias))
    convolve = _CONVOLUTIONS[key.op]
    if transposed:
        extra = _output_padding(key)
        return _behind(
            key,
            lambda x: convolve(
                x, weight, bias, key.stride, key.padding, extra, key.groups, key.dilation
            ),
        )
    return _behind(
        key, lambda x: convolve(x, weight, bias, key.stride, key.padding, key.dilation, key.groups)
    )


def _behind(key: EntryKey, layer: Layer) -> Layer:
    """The layer with what its kernel is asked to fuse."""
    return (lambda x: layer(x).relu_()) if key.fused_with == "relu" else layer


def _output_padding(key: EntryKey) -> list[int]:
    """Rows a transposed convolution adds at the end, per spatial axis."""
    plain = [
        (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1
        for size, stride, padding, dilation, kernel in zip(
            key.input_shape[2:],
            key.stride,
            key.padding,
            key.dilation,
            key.weight_shape[2:],
            strict=True,
        )
    ]
    return [out - size for out, size in zip(key.output_shape[2:], plain, strict=True)]
