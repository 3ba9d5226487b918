"""Eager torch on an NVIDIA GPU: float16, bfloat16, int8, fp8 and 4-bit weights of linear layers.

Used only where a card is there. Which kernels exist depends on the card's generation: fp8 from
compute capability 8.9 on, 4-bit weights and bfloat16 from 8.0 on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hw_profiles.backends.bare import LayersOnly
from hw_profiles.backends.base import Measured, Progress
from hw_profiles.backends.torch_cuda import kernels
from hw_profiles.device import Device, this_device
from hw_profiles.hw import HwConfig
from hw_profiles.keys import FLOAT_EDGE
from hw_profiles.profile import EntryKey
from hw_profiles.timing import Protocol
from quant.errors import UsageError
from spaces.choices import Choice
from spaces.layers import LayerSpec

ROTATE_BYTES = 128 << 20
"""Above the level-2 cache of a data-centre card (50 MB on an H100)."""


@dataclass(frozen=True)
class TorchCuda(LayersOnly):
    """See :class:`hw_profiles.backends.base.Backend`.

    Attributes:
        capability: compute capability of the card, for example ``(9, 0)``.
        card: its name.
    """

    capability: tuple[int, int] = (9, 0)
    card: str = ""
    name: str = "torch_cuda"

    @property
    def version(self) -> str:
        """Version of torch, with CUDA's."""
        import torch

        return str(torch.__version__)

    @property
    def device(self) -> Device:
        """The card; of the machine around it only system and architecture are kept."""
        generation = "sm_" + "".join(map(str, self.capability))
        return replace(this_device(), name=self.card, cpu_flags=(generation,), l2_bytes=0)

    @property
    def clock(self) -> str:
        """Kernels run beside the CPU: blocks are timed from launch to the end of all work."""
        return "wall time of synchronised blocks"

    def supports(self, layer: LayerSpec, choice: Choice) -> str | None:
        """None when a kernel computes in the choice's types, else the reason."""
        return kernels.supports(layer, choice, self.capability)

    def runs_as(self, layer: LayerSpec, choice: Choice) -> Choice:
        """The kernel choice that ``choice`` unpacks to."""
        return kernels.runs_as(layer, choice, self.capability)

    def edges(self, layer: LayerSpec, kernel: Choice) -> tuple[str, str]:
        """Tensors stay 16 bit wide between layers; float32 layers convert."""
        edge = FLOAT_EDGE if kernels.kernel_of(kernel) is kernels.Kernel.FLOAT32 else "bfloat16"
        return edge, edge

    def measure(self, keys: Sequence[EntryKey], progress: Progress) -> Measured:
        """Times the kernels of ``keys``."""
        from hw_profiles.backends.torch_cuda.measure import measure_keys

        found = measure_keys(keys, self.timing, self.rotate_bytes, self.seed, progress)
        return Measured(tuple(found))


def make(hw: HwConfig, l2_bytes: int) -> TorchCuda:
    """Builds the backend for a device configuration.

    Raises:
        UsageError: there is no card, or torch was built without CUDA.
    """
    import torch

    if not torch.cuda.is_available():
        raise UsageError(
            "there is no NVIDIA GPU that torch can use",
            where=f"hw.{hw.name}.backend",
            expected="a card, its driver, and a CUDA build of torch",
            fix="hw=this measures this CPU",
        )
    capability = torch.cuda.get_device_capability()
    name = torch.cuda.get_device_name()
    return TorchCuda(Protocol(rounds=hw.rounds), hw.seed, ROTATE_BYTES, capability, name)
