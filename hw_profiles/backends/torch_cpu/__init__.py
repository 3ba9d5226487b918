"""Eager torch on the CPU: float32 and bfloat16, everything else is storage only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hw_profiles.backends.bare import LayersOnly
from hw_profiles.backends.base import Measured, Progress
from hw_profiles.hw import HwConfig
from hw_profiles.keys import FLOAT_EDGE
from hw_profiles.profile import EntryKey
from hw_profiles.timing import Protocol
from quant.formats import parse_format
from spaces.choices import FLOAT_CHOICE, Choice
from spaces.layers import LayerSpec

BFLOAT16 = Choice(parse_format("bfloat16"), parse_format("bfloat16"))


@dataclass(frozen=True)
class TorchCpu(LayersOnly):
    """See :class:`hw_profiles.backends.base.Backend`."""

    name: str = "torch_cpu"

    @property
    def version(self) -> str:
        """Version of torch."""
        import torch

        return str(torch.__version__)

    def supports(self, layer: LayerSpec, choice: Choice) -> str | None:
        """None when eager torch computes in the choice's types, else the reason."""
        runs = self.runs_as(layer, choice)
        if (runs.weight, runs.activation) == (choice.weight, choice.activation):
            return None
        return f"no {choice.label} {layer.op} kernel in eager torch on a CPU; runs as {runs.label}"

    def runs_as(self, layer: LayerSpec, choice: Choice) -> Choice:
        """bfloat16 for two bfloat16 tensors, float32 for all others."""
        both = (choice.weight, choice.activation)
        return BFLOAT16 if both == (BFLOAT16.weight, BFLOAT16.activation) else FLOAT_CHOICE

    def edges(self, layer: LayerSpec, kernel: Choice) -> tuple[str, str]:
        """Tensors stay in the kernel's type."""
        edge = FLOAT_EDGE if kernel == FLOAT_CHOICE else "bfloat16"
        return edge, edge

    def measure(self, keys: Sequence[EntryKey], progress: Progress) -> Measured:
        """Times the kernels of ``keys``."""
        from hw_profiles.backends.torch_cpu.measure import measure_keys

        found = measure_keys(keys, self.timing, self.rotate_bytes, self.seed, progress)
        return Measured(tuple(found))


def make(hw: HwConfig, l2_bytes: int) -> TorchCpu:
    """Builds the backend for a device configuration and the private cache of its cores."""
    return TorchCpu(Protocol(rounds=hw.rounds), hw.seed, max(2 * l2_bytes, 4 << 20))
