"""Noise-to-signal ratio of layer outputs: what a layer alone does to its own result.

``mean |dy|^2 / mean |y|^2`` over samples, summed over the layers of a group; the local error that
layer-wise reconstruction minimises (Nagel et al., AdaRound, arXiv 2004.10568, equation 20).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from quant.sensitivity.base import Progress, ScoreContext, ScoreTable, padded
from quant.sensitivity.taps import Taps, local_effect, per_sample, tapped

Samples = Mapping[tuple[int, int], list[Tensor]]


@dataclass(frozen=True)
class OutputError:
    """Relative squared error of the outputs of a group's layers, each on its float input."""

    kind: ClassVar[str] = "output_error"
    needs_data: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = False

    def passes(self, choices: Sequence[int]) -> float:
        """See :meth:`quant.sensitivity.base.Score.passes`."""
        return 1.0 + max(choices, default=0)

    def compute(self, ctx: ScoreContext, progress: Progress | None = None) -> ScoreTable:
        """See :meth:`quant.sensitivity.base.Score.compute`."""
        start = time.perf_counter()
        found: dict[tuple[int, int], list[Tensor]] = {}
        batches = torch.split(ctx.inputs, ctx.batch_size)
        for done, batch in enumerate(batches, 1):
            with tapped(ctx.quantized, ctx.layers, gradients=False) as taps, torch.no_grad():
                ctx.quantized(batch)
            _add_effects(ctx, taps, len(batch), found)
            if progress:
                progress(done, len(batches))
        work = 1.0 + max(map(len, ctx.choices), default=0)
        return sample_table(self.kind, ctx, found, time.perf_counter() - start, work)


def _add_effects(
    ctx: ScoreContext, taps: Taps, n: int, found: dict[tuple[int, int], list[Tensor]]
) -> None:
    for g, (group, choices) in enumerate(zip(ctx.groups, ctx.choices, strict=True)):
        for c, choice in enumerate(choices):
            ratio = torch.zeros(n, dtype=torch.float64)
            for layer in group:
                ratio = ratio + _ratio(
                    local_effect(ctx.quantized, taps, layer, choice),
                    taps.outputs.get(layer, []),
                    n,
                )
            found.setdefault((g, c), []).append(ratio)


def _ratio(changes: Sequence[Tensor], outputs: Sequence[Tensor], n: int) -> Tensor:
    """Noise of each sample over the batch's mean signal, ``[n]``; 0 for a layer never run."""
    if not outputs:
        return torch.zeros(n, dtype=torch.float64)
    noise = torch.stack([per_sample(dy, n).square().sum(1) for dy in changes]).sum(0)
    signal = torch.stack([per_sample(y, n).square().sum(1) for y in outputs]).sum(0).mean()
    return noise / signal if float(signal) else noise


def sample_table(
    kind: str,
    ctx: ScoreContext,
    found: Samples,
    seconds: float,
    work: float,
    notes: tuple[str, ...] = (),
) -> ScoreTable:
    """Means over samples and their standard errors, from pieces ``[some samples]`` per entry."""
    values, errors = [], []
    for g, choices in enumerate(ctx.choices):
        rows = [torch.cat(found[g, c]) for c in range(len(choices))]
        values.append([float(row.mean()) for row in rows])
        errors.append(
            [float(row.std()) / len(row) ** 0.5 if len(row) > 1 else 0.0 for row in rows]
        )
    return ScoreTable(kind, padded(values), padded(errors), seconds, work, notes)
