"""First-order scores at layer outputs: Fisher by sample, and element by element.

``fisher``: ``E[(g . dy)^2] / 2`` with ``g`` the gradient of one sample's loss by a layer's output
and ``dy`` the local effect of a choice. With labels drawn from the model's own distribution this
is the Gauss-Newton (true Fisher) term of a second-order expansion (Martens, arXiv 1412.1193,
section 5; BRECQ, arXiv 2102.05426, equation 9 uses its diagonal); with given labels it is the
empirical Fisher.

``elementwise``: ``E[sum (g * dy)^2]``, every element by itself and labels as given: what NVIDIA's
ModelOpt scores in its ``auto_quantize``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from quant.errors import UsageError, unknown
from quant.sensitivity.base import Progress, ScoreContext, ScoreTable
from quant.sensitivity.output_error import sample_table
from quant.sensitivity.taps import (
    Taps,
    labelled_batches,
    local_effect,
    output_gradients,
    per_sample,
    tapped,
)

KINDS = ("fisher", "elementwise")
LABELS = ("sampled", "given")
Gradients = dict[str, list[Tensor]]


@dataclass(frozen=True)
class OutputGradient:
    """See the module docstring.

    Attributes:
        kind: ``"fisher"`` or ``"elementwise"``.
        labels: ``"sampled"`` draws them from the model, ``"given"`` takes the data's.
        draws: label draws of each sample; 1 for given labels.

    Raises:
        UsageError: an unknown word or fewer than 1 draw.
    """

    needs_data: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = True
    kind: str = "fisher"
    labels: str = "sampled"
    draws: int = 3

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("kind", self.kind, KINDS, where="score.kind")
        if self.labels not in LABELS:
            raise unknown("labels", self.labels, LABELS, where=f"score.{self.kind}.labels")
        if self.draws < 1:
            raise UsageError(
                f"draws is {self.draws}", where=f"score.{self.kind}.draws", expected="at least 1"
            )

    @property
    def needs_labels(self) -> bool:
        """Given labels do, drawn ones do not."""
        return self.labels == "given"

    def passes(self, choices: Sequence[int]) -> float:
        """See :meth:`quant.sensitivity.base.Score.passes`."""
        draws = self.draws if self.labels == "sampled" else 1
        return 1.0 + 2.0 * draws + max(choices, default=0)

    def compute(self, ctx: ScoreContext, progress: Progress | None = None) -> ScoreTable:
        """See :meth:`quant.sensitivity.base.Score.compute`.

        Raises:
            UsageError: labels are needed and missing, or the model has no gradient.
        """
        start = time.perf_counter()
        found: dict[tuple[int, int], list[Tensor]] = {}
        draws = self.draws if self.labels == "sampled" else 1
        batches = self._batches(ctx)
        for done, (x, labels) in enumerate(batches, 1):
            with tapped(ctx.quantized, ctx.layers, gradients=True) as taps, torch.enable_grad():
                logits = ctx.quantized(x)
            targets = [self._targets(logits, labels, ctx.generator) for _ in range(draws)]
            gradients = [
                output_gradients(
                    F.cross_entropy(logits, target, reduction="none"), taps, keep=True
                )
                for target in targets
            ]
            self._add(ctx, taps, gradients, len(x), found)
            if progress:
                progress(done, len(batches))
        work = 1.0 + 2.0 * draws + max(map(len, ctx.choices), default=0)
        return sample_table(self.kind, ctx, found, time.perf_counter() - start, work)

    def _batches(self, ctx: ScoreContext) -> list[tuple[Tensor, Tensor | None]]:
        if self.needs_labels:
            return list(labelled_batches(ctx, self.kind))
        return [(x, None) for x in torch.split(ctx.inputs, ctx.batch_size)]

    def _targets(
        self, logits: Tensor, labels: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        if labels is not None:
            return labels
        shares = logits.detach().softmax(dim=1)
        return torch.multinomial(shares, 1, generator=generator)[:, 0]

    def _add(
        self,
        ctx: ScoreContext,
        taps: Taps,
        gradients: list[Gradients],
        n: int,
        found: dict[tuple[int, int], list[Tensor]],
    ) -> None:
        for g, (group, choices) in enumerate(zip(ctx.groups, ctx.choices, strict=True)):
            for c, choice in enumerate(choices):
                changes = {
                    layer: local_effect(ctx.quantized, taps, layer, choice) for layer in group
                }
                each = [self._effect(changes, slopes, n) for slopes in gradients]
                found.setdefault((g, c), []).append(torch.stack(each).mean(0))

    def _effect(self, changes: Gradients, slopes: Gradients, n: int) -> Tensor:
        """Effect on each sample under one draw of labels, ``[n]``."""
        products = [
            per_sample(slope, n) * per_sample(change, n)
            for layer, found in changes.items()
            for slope, change in zip(slopes.get(layer, []), found, strict=True)
        ]
        if not products:
            return torch.zeros(n, dtype=torch.float64)
        if self.kind == "elementwise":
            return torch.stack([item.square().sum(1) for item in products]).sum(0)
        return torch.stack([item.sum(1) for item in products]).sum(0).square() / 2
