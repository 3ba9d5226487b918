"""OpenVINO on the CPU: float32, bfloat16, static int8, and 8/4-bit weights of linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hw_profiles.backends.bare import LayersOnly
from hw_profiles.backends.base import Measured, Progress
from hw_profiles.backends.openvino_cpu import kernels
from hw_profiles.hw import HwConfig
from hw_profiles.keys import FLOAT_EDGE
from hw_profiles.profile import EntryKey
from hw_profiles.timing import Protocol
from quant.errors import UsageError
from spaces.choices import Choice
from spaces.layers import LayerSpec


@dataclass(frozen=True)
class OpenVinoCpu(LayersOnly):
    """See :class:`hw_profiles.backends.base.Backend`."""

    name: str = "openvino_cpu"

    @property
    def version(self) -> str:
        """Version of the installed runtime."""
        import openvino

        return str(openvino.__version__).partition("-")[0]

    def supports(self, layer: LayerSpec, choice: Choice) -> str | None:
        """None when a kernel computes in the choice's bit-widths, else the reason."""
        return kernels.supports(layer, choice)

    def runs_as(self, layer: LayerSpec, choice: Choice) -> Choice:
        """The kernel choice that ``choice`` unpacks to."""
        return kernels.runs_as(layer, choice)

    def edges(self, layer: LayerSpec, kernel: Choice) -> tuple[str, str]:
        """Static int8 layers take and hand on uint8; casts to bfloat16 are part of a kernel."""
        edge = "uint8" if kernels.kernel_of(kernel) is kernels.Kernel.INT8 else FLOAT_EDGE
        return edge, edge

    def measure(self, keys: Sequence[EntryKey], progress: Progress) -> Measured:
        """Times the kernels of ``keys``."""
        from hw_profiles.backends.openvino_cpu.measure import measure_keys

        found = measure_keys(keys, self.timing, self.rotate_bytes, self.seed, progress)
        return Measured(tuple(found))


def make(hw: HwConfig, l2_bytes: int) -> OpenVinoCpu:
    """Builds the backend for a device configuration and the private cache of its cores.

    Raises:
        UsageError: OpenVINO is not installed.
    """
    try:
        import openvino  # noqa: F401
    except ImportError as cause:
        raise UsageError(
            "OpenVINO is not installed",
            where=f"hw.{hw.name}.backend",
            fix="pip install 'bitfront[openvino]'",
        ) from cause
    return OpenVinoCpu(Protocol(rounds=hw.rounds), hw.seed, max(2 * l2_bytes, 4 << 20))
