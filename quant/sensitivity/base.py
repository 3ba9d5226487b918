"""Sensitivity scores: how much each choice of each group is expected to hurt.

A score is asked once per study, before the search. It returns one number per group and choice;
lower is better and 0 is the float model. Scores of one table may be added over groups; tables of
different kinds share no unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quant.errors import UsageError
from quant.model import LayerChoice, QuantizedModel

Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Called with (steps done, steps at most)."""


@dataclass(frozen=True)
class ScoreContext:
    """What a score may use.

    Attributes:
        quantized: the calibrated model; a score leaves it in float.
        groups: layer names of each tie group.
        choices: choices of each group, one tuple per group.
        inputs: model inputs, ``[n, ...]``; disjoint from search-validation and test.
        labels: class indices ``[n]``, or None.
        batch_size: samples per forward pass.
        generator: source of all randomness.

    Raises:
        UsageError: groups and choices differ in number, or the batch size is below 1.
    """

    quantized: QuantizedModel
    groups: tuple[tuple[str, ...], ...]
    choices: tuple[tuple[LayerChoice, ...], ...]
    inputs: Tensor
    labels: Tensor | None
    batch_size: int
    generator: torch.Generator

    def __post_init__(self) -> None:
        if len(self.groups) != len(self.choices):
            raise UsageError(
                f"{len(self.groups)} groups but choices for {len(self.choices)}",
                expected="one tuple of choices per group",
            )
        if self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size}", expected="at least 1")

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all layers, group by group."""
        return tuple(name for group in self.groups for name in group)


class Surrogate(Protocol):
    """Predicts the quality of whole policies without running the model."""

    def predict(self, codes: npt.NDArray[np.int64]) -> Mapping[str, Floats]:
        """Qualities of ``int[P, groups]``, ``{"kl" | "ce" | "accuracy": float[P]}``.

        ``"ce"`` and ``"accuracy"`` are there when the score had labels.
        """
        ...

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything it predicts from, as named plain arrays."""
        ...


@dataclass(frozen=True)
class ScoreTable:
    """Scores of a space.

    Attributes:
        kind: name of the score.
        value: ``float64[groups, most choices]``, NaN-padded; lower is better, 0 = float.
        standard_error: of ``value``, same shape; 0 for deterministic scores.
        seconds: wall time spent.
        forward_equivalents: work in forward passes over the context's inputs; a backward pass
            counts 2.
        notes: what a reader should know about these numbers.
        surrogate: predicts whole policies, for scores that can.
        curvature: of the loss in the weights of each group, ``float64[groups]``: mean trace or
            top eigenvalue over parameters, for scores by Hessian.
    """

    kind: str
    value: Floats
    standard_error: Floats
    seconds: float
    forward_equivalents: float
    notes: tuple[str, ...] = ()
    surrogate: Surrogate | None = None
    curvature: Floats | None = None


class Score(Protocol):
    """One way to score the choices of a space.

    Attributes:
        kind: name in configurations and records.
        needs_data: whether ``inputs`` are read.
        needs_labels: whether ``labels`` are required.
        needs_gradients: whether the model must be differentiable.
    """

    kind: ClassVar[str]
    needs_data: ClassVar[bool]
    needs_labels: ClassVar[bool]
    needs_gradients: ClassVar[bool]

    def passes(self, choices: Sequence[int]) -> float:
        """Work to expect at most, in forward passes over the context's inputs.

        Args:
            choices: number of choices of each group that are not float.
        """
        ...

    def compute(self, ctx: ScoreContext, progress: Progress | None = None) -> ScoreTable:
        """Scores every choice of every group.

        Raises:
            UsageError: the context lacks what the score needs.
        """
        ...


def padded(rows: Sequence[Sequence[float]]) -> Floats:
    """Rows of different lengths as ``float64[rows, longest]``, NaN-padded."""
    table = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for row, target in zip(rows, table, strict=True):
        target[: len(row)] = row
    return table
