"""Times eager torch layers on one CPU thread, copies of the weights rotating."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from hw_profiles.backends.base import Call, Progress
from hw_profiles.backends.built import Bench, Built, copies_of
from hw_profiles.backends.eager import Layer, entering, float_layer
from hw_profiles.profile import Entry, EntryKey
from hw_profiles.timing import Protocol
from quant.formats import parse_format

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
REFERENCE = EntryKey(
    "conv2d", (64, 64, 3, 3), (1, 64, 28, 28), (1, 64, 28, 28), (1, 1), (1, 1), (1, 1),
    weight_format="float32", activation_format="float32",
)  # fmt: skip


def measure_keys(
    keys: Sequence[EntryKey], timing: Protocol, rotate_bytes: int, seed: int, progress: Progress
) -> list[Entry]:
    """Times every key on one thread without gradients; entries in the order of ``keys``.

    The dispatch of an op stays in its time: an eager network pays it for every layer.
    """
    generator = torch.Generator().manual_seed(seed)

    def build(key: EntryKey) -> Built:
        return build_key(key, rotate_bytes, generator)

    with _one_thread(), torch.no_grad():
        reference = build_key(REFERENCE, 0, generator).call
        made = Bench(build, reference, lambda: None, timing, np.random.default_rng(seed))
        return made.entries(keys, progress)


def build_key(key: EntryKey, rotate_bytes: int, generator: torch.Generator) -> Built:
    """The kernel of a key; conversions are casts."""
    if key.op in ("quantize", "dequantize"):
        x = torch.randn(key.input_shape, generator=generator).to(TYPES[key.edge_in])
        target = TYPES[key.edge_out]
        cast = in_turn([lambda tensor: tensor.to(target)], x)
        return Built(cast, 1, ("aten::_to_copy",), genuine=True)
    dtype = TYPES[str(parse_format(key.weight_format))]
    copies = copies_of(key, rotate_bytes)
    layers = [float_layer(key, dtype, "cpu", generator) for _ in range(copies)]
    x = entering(key, dtype, "cpu", generator)
    op = "aten::linear" if key.op == "linear" else "aten::convolution"
    return Built(
        in_turn(layers, x), copies, (f"{op} {dtype}".replace("torch.", ""),), genuine=True
    )


def in_turn(layers: Sequence[Layer], x: Tensor) -> Call:
    """A call that runs every layer once on the same tensor."""

    def call() -> None:
        for layer in layers:
            layer(x)

    return call


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
