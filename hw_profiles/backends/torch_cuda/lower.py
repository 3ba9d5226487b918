"""Linear layers in the low-bit kernels that torch has on an NVIDIA GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from hw_profiles.backends.eager import Layer, float_layer
from hw_profiles.backends.torch_cuda.kernels import Kernel
from hw_profiles.profile import EntryKey
from quant.formats import parse_format

DEVICE = "cuda"
FLOATS = {
    Kernel.FLOAT32: torch.float32,
    Kernel.FLOAT16: torch.float16,
    Kernel.BFLOAT16: torch.bfloat16,
}
INNER_TILES = 8
SCALE = 0.02


def build_layer(key: EntryKey, family: Kernel, generator: torch.Generator) -> Layer:
    """The layer of ``key`` with random weights; low-bit kernels quantize their input inside."""
    if family in FLOATS:
        return float_layer(key, FLOATS[family], DEVICE, generator)
    build = {Kernel.INT8: _int8, Kernel.FP8: _fp8, Kernel.INT4: _int4}[family]
    layer = build(key, generator)
    return (lambda x: layer(x).relu_()) if key.fused_with == "relu" else layer


def entering_type(family: Kernel) -> torch.dtype:
    """Type of the tensor handed to a layer of this family."""
    return FLOATS.get(family, torch.bfloat16)


def _int8(key: EntryKey, generator: torch.Generator) -> Layer:
    rows, columns = key.weight_shape
    codes = torch.randint(-127, 128, (rows, columns), generator=generator).to(DEVICE, torch.int8)
    scale = torch.rand(rows, generator=generator).to(DEVICE, torch.bfloat16) * SCALE

    def layer(x: Tensor) -> Tensor:
        entering = (x * (1 / SCALE)).round_().clamp_(-127, 127).to(torch.int8)
        return torch._int_mm(entering, codes.t()) * scale

    return layer


def _fp8(key: EntryKey, generator: torch.Generator) -> Layer:
    weight = torch.randn(key.weight_shape, generator=generator).to(DEVICE, torch.float8_e4m3fn)
    one = torch.ones((), device=DEVICE)

    def layer(x: Tensor) -> Tensor:
        entering = x.to(torch.float8_e4m3fn)
        product: Tensor = torch._scaled_mm(
            entering, weight.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16
        )
        return product

    return layer


def _int4(key: EntryKey, generator: torch.Generator) -> Layer:
    rows, columns = key.weight_shape
    group = parse_format(key.weight_format).group_size
    codes = torch.randint(0, 256, (rows, columns // 2), generator=generator, dtype=torch.uint8)
    packed = torch._convert_weight_to_int4pack(codes.to(DEVICE), INNER_TILES)
    grid = torch.rand(columns // group, rows, 2, generator=generator)
    scales_and_zeros = (grid * SCALE).to(DEVICE, torch.bfloat16)

    def layer(x: Tensor) -> Tensor:
        return torch._weight_int4pack_mm(x, packed, group, scales_and_zeros)

    return layer
