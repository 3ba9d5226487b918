"""Times eager torch layers on an NVIDIA GPU; blocks of launches, synchronised at both ends."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from hw_profiles.backends.base import Progress
from hw_profiles.backends.built import Bench, Built, copies_of
from hw_profiles.backends.eager import entering
from hw_profiles.backends.torch_cpu.measure import REFERENCE, in_turn
from hw_profiles.backends.torch_cuda.kernels import kernel_of
from hw_profiles.backends.torch_cuda.lower import DEVICE, build_layer, entering_type
from hw_profiles.profile import Entry, EntryKey
from hw_profiles.timing import Protocol
from quant.formats import parse_format
from spaces.choices import Choice

CASTS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
OPS = {"int8": "aten::_int_mm", "fp8": "aten::_scaled_mm", "int4": "aten::_weight_int4pack_mm"}


def measure_keys(
    keys: Sequence[EntryKey], timing: Protocol, rotate_bytes: int, seed: int, progress: Progress
) -> list[Entry]:
    """Times every key; launching an op stays in its time where the card waits for launches."""
    generator = torch.Generator().manual_seed(seed)

    def build(key: EntryKey) -> Built:
        return build_key(key, rotate_bytes, generator)

    with torch.no_grad():
        reference = build_key(REFERENCE, 0, generator).call
        rng = np.random.default_rng(seed)
        return Bench(build, reference, lambda: None, timing, rng, _clock).entries(keys, progress)


def build_key(key: EntryKey, rotate_bytes: int, generator: torch.Generator) -> Built:
    """The kernel of a key on the card; conversions are casts."""
    if key.op in ("quantize", "dequantize"):
        x = torch.randn(key.input_shape, generator=generator).to(DEVICE, CASTS[key.edge_in])
        target = CASTS[key.edge_out]
        cast = in_turn([lambda tensor: tensor.to(target)], x)
        return Built(cast, 1, ("aten::_to_copy",), genuine=True)
    formats = (parse_format(key.weight_format), parse_format(key.activation_format))
    family = kernel_of(Choice(*formats))
    copies = copies_of(key, rotate_bytes)
    layers = [build_layer(key, family, generator) for _ in range(copies)]
    x = entering(key, entering_type(family), DEVICE, generator)
    op = OPS.get(family) or f"aten::{'linear' if key.op == 'linear' else 'convolution'} {family}"
    return Built(in_turn(layers, x), copies, (op,), genuine=True)


def _clock() -> int:
    torch.cuda.synchronize()
    return time.perf_counter_ns()
