"""Tables somebody else wrote, read by :mod:`hw_profiles.importing`: one time per layer and widths.

Entries are keyed by geometry and bit-widths; nothing is known about schemes, granularity or
conversions, so none are told apart and none are counted. Nothing can be measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hw_profiles.backends.base import GraphNode, Measured, Network, Progress
from hw_profiles.device import Device, this_device
from hw_profiles.hw import HwConfig
from hw_profiles.importing import width_format
from hw_profiles.keys import FLOAT_EDGE
from hw_profiles.profile import EntryKey, NodeEntry
from quant.errors import UsageError
from spaces.choices import Choice
from spaces.layers import LayerSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Imported:
    """See :class:`hw_profiles.backends.base.Backend`."""

    table: str
    name: str = "imported"
    version: str = "1"

    @property
    def device(self) -> Device:
        """This machine, which ``hw.*.device=this`` compares the table with."""
        return this_device()

    @property
    def protocol(self) -> dict[str, object]:
        """Nothing is known of how the numbers came to be."""
        return {"method": "imported"}

    def supports(self, layer: LayerSpec, choice: Choice) -> str | None:
        """Whether there is an entry is found out when the table is read."""
        return None

    def runs_as(self, layer: LayerSpec, choice: Choice) -> Choice:
        """Widths only."""
        return Choice(width_format(choice.weight.bits), width_format(choice.activation.bits))

    def edges(self, layer: LayerSpec, kernel: Choice) -> tuple[str, str]:
        """Conversions are part of the imported times, if anywhere."""
        return FLOAT_EDGE, FLOAT_EDGE

    def measure(self, keys: Sequence[EntryKey], progress: Progress) -> Measured:
        """Refuses.

        Raises:
            UsageError: always.
        """
        raise self._not_here()

    def measure_nodes(self, nodes: Sequence[GraphNode], progress: Progress) -> list[NodeEntry]:
        """Refuses.

        Raises:
            UsageError: always.
        """
        raise self._not_here()

    def network(
        self, model: nn.Module, layers: Sequence[LayerSpec], example_input: Tensor
    ) -> Network:
        """Refuses.

        Raises:
            UsageError: always.
        """
        raise self._not_here()

    def _not_here(self) -> UsageError:
        return UsageError(
            f"table '{self.table}' was imported: nothing can be measured for it",
            expected="a complete table",
            fix="add the missing rows to its source and run bitfront-measure import again",
        )


def make(hw: HwConfig, l2_bytes: int) -> Imported:
    """Builds the backend of an imported table."""
    return Imported(hw.profile)
