"""What one layer takes, as the numerics see it."""

from __future__ import annotations

from typing import Protocol

from quant.formats import Format


class LayerChoice(Protocol):
    """Formats and method of one layer; must be hashable.

    ``method`` is empty or as :meth:`quant.method.Method.recipe` reads it.
    """

    @property
    def weight(self) -> Format:
        """Format of the weight."""
        ...

    @property
    def activation(self) -> Format:
        """Format of the tensor entering the layer."""
        ...

    @property
    def method(self) -> str:
        """Weight calibrator, way to choose codes, or both; empty for the study's."""
        ...
