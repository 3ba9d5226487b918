"""What a backend must answer: which kernels exist, what a choice runs as, how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hw_profiles.device import Device
from hw_profiles.profile import Entry, EntryKey, NodeEntry
from spaces.choices import Choice
from spaces.layers import LayerSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

Kernels = Mapping[str, Choice]
"""Kernel choice of every layer, as a backend's ``runs_as`` returns it."""
Call = Callable[[], None]
Progress = Callable[[str], None]
"""Called with one line of text whenever there is something to tell."""


@dataclass(frozen=True)
class Measured:
    """What one measurement found: an entry per key, in order, and the nodes behind them."""

    entries: tuple[Entry, ...]
    nodes: tuple[NodeEntry, ...] = ()


class GraphNode(Protocol):
    """One executed node of an optimised graph."""

    @property
    def id(self) -> str:
        """Hash of all that decides its time."""
        ...

    @property
    def text(self) -> str:
        """Op, attributes, types and shapes, readable."""
        ...

    @property
    def op(self) -> str:
        """Op type."""
        ...


class Network(Protocol):
    """A whole model in a runtime, ready to be lowered for any policy."""

    @property
    def signature(self) -> str:
        """Hash of the graph without its trained numbers."""
        ...

    @property
    def neighbours(self) -> tuple[tuple[str, str], ...]:
        """Pairs of layers whose kernels may save or need a conversion between them."""
        ...

    def nodes(self, kernels: Kernels) -> Sequence[GraphNode]:
        """What the runtime executes for a policy, after its optimisation."""
        ...

    def call(self, kernels: Kernels) -> Call:
        """Runs a policy end to end once per call."""
        ...

    def op_times(self, kernels: Kernels, calls: int) -> Mapping[str, float]:
        """Milliseconds per op type inside the whole network, by the runtime's own profiler."""
        ...


class Backend(Protocol):
    """One runtime on this machine."""

    @property
    def name(self) -> str:
        """Name of the runtime, equal to its folder, for example ``"onnxruntime_cpu"``."""
        ...

    @property
    def version(self) -> str:
        """Version of the installed runtime."""
        ...

    @property
    def protocol(self) -> dict[str, object]:
        """How this backend measures, stored in the profile."""
        ...

    @property
    def device(self) -> Device:
        """The device it computes on."""
        ...

    def supports(self, layer: LayerSpec, choice: Choice) -> str | None:
        """None when a kernel computes in the choice's bit-widths, else why there is none."""
        ...

    def runs_as(self, layer: LayerSpec, choice: Choice) -> Choice:
        """The kernel choice that ``choice`` unpacks to (itself, normalised, when supported)."""
        ...

    def edges(self, layer: LayerSpec, kernel: Choice) -> tuple[str, str]:
        """Tensor types the kernel takes and hands out, ``"float32"`` or ``"uint8"`` each."""
        ...

    def measure(self, keys: Sequence[EntryKey], progress: Progress) -> Measured:
        """Times the kernels of ``keys``; one entry per key, in the same order."""
        ...

    def measure_nodes(self, nodes: Sequence[GraphNode], progress: Progress) -> list[NodeEntry]:
        """Times single nodes of optimised graphs; one entry per distinct node."""
        ...

    def network(
        self, model: nn.Module, layers: Sequence[LayerSpec], example_input: Tensor
    ) -> Network:
        """The model in this runtime, with random weights: only its speed is real.

        Raises:
            UsageError: the model cannot be translated for the runtime.
        """
        ...
