"""What backends without whole-model graphs have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from hw_profiles.backends.base import GraphNode, Network, Progress
from hw_profiles.device import Device, this_device
from hw_profiles.profile import NodeEntry
from hw_profiles.timing import Protocol
from quant.errors import UsageError
from spaces.layers import LayerSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class LayersOnly:
    """Times layers one by one; conversions between them follow from rules, unchecked.

    Attributes:
        timing: rounds, warm-up, block length.
        seed: order within rounds and random weights.
        rotate_bytes: total size of the weight copies a kernel rotates over.
    """

    timing: Protocol
    seed: int = 0
    rotate_bytes: int = 4 << 20

    @property
    def device(self) -> Device:
        """This machine."""
        return this_device()

    @property
    def clock(self) -> str:
        """Which clock times are of."""
        return "thread CPU time"

    @property
    def protocol(self) -> dict[str, object]:
        """How this backend measures, stored in the profile."""
        return {
            **asdict(self.timing),
            "clock": self.clock,
            "interleaved": True,
            "rotate_bytes": self.rotate_bytes,
            "reference": "conv2d 3x3 64->64 at 28x28, float32",
            "seed": self.seed,
        }

    def measure_nodes(self, nodes: Sequence[GraphNode], progress: Progress) -> list[NodeEntry]:
        """There are no nodes."""
        return []

    def network(
        self, model: nn.Module, layers: Sequence[LayerSpec], example_input: Tensor
    ) -> Network:
        """Whole models are not run here.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "whole models are not run on this backend: its predictions stay unchecked",
            expected="a backend that runs whole models: onnxruntime_cpu",
            fix="hw=this",
        )
