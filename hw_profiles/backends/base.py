"""What a backend must answer: which kernels exist, what a choice runs as, how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from hw_profiles.profile import Entry, EntryKey
from spaces.choices import Choice
from spaces.layers import LayerSpec

Progress = Callable[[str], None]
"""Called with one line of text whenever there is something to tell."""


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

    def supports(self, layer: LayerSpec, choice: Choice) -> str | None:
        """None when a kernel computes in the choice's bit-widths, else why there is none."""
        ...

    def runs_as(self, layer: LayerSpec, choice: Choice) -> Choice:
        """The kernel choice that ``choice`` unpacks to (itself, normalised, when supported)."""
        ...

    def edges(self, kernel: Choice) -> tuple[str, str]:
        """Tensor types a kernel takes and hands out, ``"float32"`` or ``"uint8"`` each."""
        ...

    def measure(self, keys: Sequence[EntryKey], progress: Progress) -> list[Entry]:
        """Times the kernels of ``keys``; one entry per key, in the same order."""
        ...
