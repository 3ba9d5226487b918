"""ONNX Runtime's CPU provider: the default target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from hw_profiles.backends.base import GraphNode, Measured, Network, Progress
from hw_profiles.backends.onnxruntime_cpu import kernels
from hw_profiles.device import Device, this_device
from hw_profiles.hw import HwConfig
from hw_profiles.keys import FLOAT_EDGE
from hw_profiles.profile import EntryKey, NodeEntry
from hw_profiles.timing import Protocol
from spaces.choices import Choice
from spaces.layers import LayerSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hw_profiles.backends.onnxruntime_cpu.measure import NodeTimer

INTEGER_EDGE = "uint8"
REVISION = 2
"""Of the way of measuring; tables of another one are not added to. 2: copies of a kernel's weights
differ, since the runtime packs equal ones once and then nothing streams."""


@dataclass(frozen=True)
class OnnxRuntimeCpu:
    """See :class:`hw_profiles.backends.base.Backend`.

    Attributes:
        timing: rounds, warm-up, block length.
        seed: order within rounds and random weights.
        rotate_bytes: total size of the weight copies a kernel rotates over; above the private
            cache of a core.
    """

    timing: Protocol
    seed: int = 0
    rotate_bytes: int = 4 << 20
    name: str = "onnxruntime_cpu"

    @property
    def version(self) -> str:
        """Version of the installed runtime."""
        import onnxruntime

        return str(onnxruntime.__version__)

    @property
    def device(self) -> Device:
        """This machine."""
        return this_device()

    @property
    def protocol(self) -> dict[str, object]:
        """How this backend measures, stored in the profile."""
        return {
            **asdict(self.timing),
            "clock": "thread CPU time",
            "interleaved": True,
            "rotate_bytes": self.rotate_bytes,
            "revision": REVISION,
            "reference": "conv2d 3x3 64->64 at 28x28, float32",
            "seed": self.seed,
        }

    def supports(self, layer: LayerSpec, choice: Choice) -> str | None:
        """None when a kernel computes in the choice's bit-widths, else the reason."""
        return kernels.supports(layer, choice)

    def runs_as(self, layer: LayerSpec, choice: Choice) -> Choice:
        """The kernel choice that ``choice`` unpacks to."""
        return kernels.runs_as(layer, choice)

    def edges(self, layer: LayerSpec, kernel: Choice) -> tuple[str, str]:
        """Static int8 kernels take uint8; convolutions hand it on, matrix products float32."""
        if kernels.kernel_of(kernel) is not kernels.Kernel.INT8_STATIC:
            return FLOAT_EDGE, FLOAT_EDGE
        return INTEGER_EDGE, FLOAT_EDGE if layer.op == "linear" else INTEGER_EDGE

    def measure(self, keys: Sequence[EntryKey], progress: Progress) -> Measured:
        """Times the kernels of ``keys`` and the nodes they consist of."""
        from hw_profiles.backends.onnxruntime_cpu.measure import measure_keys

        return measure_keys(keys, self._timer(), np.random.default_rng(self.seed), progress)

    def measure_nodes(self, nodes: Sequence[GraphNode], progress: Progress) -> list[NodeEntry]:
        """Times single nodes of optimised graphs; one entry per distinct node."""
        from hw_profiles.backends.onnxruntime_cpu.measure import measure_nodes

        return measure_nodes(nodes, self._timer(), progress)

    def network(
        self, model: nn.Module, layers: Sequence[LayerSpec], example_input: Tensor
    ) -> Network:
        """The model in this runtime, with random weights and grids: only its speed is real."""
        from hw_profiles.backends.onnxruntime_cpu.network import OnnxNetwork

        return OnnxNetwork.of(model, layers, example_input, self.seed)

    def _timer(self) -> NodeTimer:
        from hw_profiles.backends.onnxruntime_cpu.measure import NodeTimer

        return NodeTimer(self.timing, self.rotate_bytes, self.seed)


def make(hw: HwConfig, l2_bytes: int) -> OnnxRuntimeCpu:
    """Builds the backend for a device configuration and the private cache of its cores."""
    return OnnxRuntimeCpu(Protocol(rounds=hw.rounds), hw.seed, max(2 * l2_bytes, 4 << 20))
