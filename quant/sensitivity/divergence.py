"""What one layer alone does to the output: KL to the float model, or change of cross-entropy.

Every choice of every group is tried by itself, everything else in float: one forward pass over
the inputs each. KL needs no labels and is never negative, so an additive solver cannot exploit
its noise (ZeroQ, arXiv 2001.00281, section 3.2); the change of cross-entropy has a sign.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from quant.errors import DataError, UsageError, unknown
from quant.model import LayerChoice
from quant.sensitivity.base import Progress, ScoreContext, ScoreTable, padded

KINDS = ("kl", "ce")


@dataclass(frozen=True)
class SingleLayer:
    """Mean effect on the output of quantizing one group alone.

    Attributes:
        kind: ``"kl"`` (mean KL divergence from the float output, nats, >= 0) or ``"ce"``
            (mean change of cross-entropy, nats, may be negative).

    Raises:
        UsageError: another kind.
    """

    needs_data: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = False
    kind: str = "kl"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("kind", self.kind, KINDS, where="score.kind")

    @property
    def needs_labels(self) -> bool:
        """Cross-entropy does, KL does not."""
        return self.kind == "ce"

    def compute(self, ctx: ScoreContext, progress: Progress | None = None) -> ScoreTable:
        """See :meth:`quant.sensitivity.base.Score.compute`.

        Raises:
            UsageError: cross-entropy without labels.
            DataError: the model answers NaN under a choice (the layer is named).
        """
        if self.needs_labels and ctx.labels is None:
            raise UsageError(
                "the score 'ce' needs labels, and made-up inputs have none of their own",
                fix="use the score 'kl', which needs none",
            )
        start = time.perf_counter()
        ctx.quantized.float_()
        reference = _logprobs(ctx)
        values, errors = [], []
        for done, (group, choices) in enumerate(zip(ctx.groups, ctx.choices, strict=True), 1):
            effects = [self._effect(ctx, group, choice, reference) for choice in choices]
            values.append([mean for mean, _ in effects])
            errors.append([error for _, error in effects])
            if progress:
                progress(done, len(ctx.groups))
        ctx.quantized.float_()
        passes = 1.0 + sum(len(choices) for choices in ctx.choices)
        seconds = time.perf_counter() - start
        return ScoreTable(self.kind, padded(values), padded(errors), seconds, passes)

    def _effect(
        self, ctx: ScoreContext, group: tuple[str, ...], choice: LayerChoice, reference: Tensor
    ) -> tuple[float, float]:
        """Mean over samples and its standard error."""
        ctx.quantized.apply(dict.fromkeys(group, choice))
        found = _logprobs(ctx)
        if not bool(torch.isfinite(found).all()):
            raise DataError(f"the model answers NaN with '{choice}' in layer '{group[0]}'")
        if self.kind == "kl":
            each = (reference.exp() * (reference - found)).sum(dim=1)
        else:
            assert ctx.labels is not None
            each = F.nll_loss(found, ctx.labels, reduction="none")
            each = each - F.nll_loss(reference, ctx.labels, reduction="none")
        mean = float(each.mean())
        if self.kind == "kl":
            # Rounding can leave a KL of zero a hair below it.
            mean = max(0.0, mean)
        return mean, float(each.std(unbiased=True)) / len(each) ** 0.5 if len(each) > 1 else 0.0


@torch.no_grad()
def _logprobs(ctx: ScoreContext) -> Tensor:
    """Log-probabilities of the model as it is, ``[n, classes]``, double precision."""
    parts = [ctx.quantized(batch) for batch in torch.split(ctx.inputs, ctx.batch_size)]
    return F.log_softmax(torch.cat(parts).double(), dim=1)
