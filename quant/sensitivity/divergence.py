"""What one group alone does to the output: KL to the float model, or change of cross-entropy.

Every choice of every group is tried by itself, everything else in float. KL needs no labels and
is never negative, so an additive solver cannot exploit its noise (ZeroQ, arXiv 2001.00281,
section 3.2); the change of cross-entropy has a sign.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quant.errors import UsageError, unknown
from quant.sensitivity.base import Floats, Progress, ScoreContext, ScoreTable, padded
from quant.sensitivity.logits import log_softmax
from quant.sensitivity.shifts import LogitShifts, logit_shifts

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

    def passes(self, choices: Sequence[int]) -> float:
        """See :meth:`quant.sensitivity.base.Score.passes`."""
        return 1.0 + sum(choices)

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
        found = logit_shifts(ctx, progress)
        value, error = effects(found, ctx, self.kind)
        seconds = time.perf_counter() - start
        return ScoreTable(self.kind, value, error, seconds, found.forward_equivalents, found.notes)


def effects(found: LogitShifts, ctx: ScoreContext, kind: str) -> tuple[Floats, Floats]:
    """Mean effect of each choice and its standard error, ``float[groups, most choices]`` each."""
    reference = log_softmax(found.base)
    values, errors = [], []
    for shifts, choices in zip(found.shifts, ctx.choices, strict=True):
        each = [
            _each(found.base + shift, reference, ctx, kind) for shift in shifts[: len(choices)]
        ]
        values.append([_mean(samples, kind) for samples in each])
        errors.append([_standard_error(samples) for samples in each])
    return padded(values), padded(errors)


def _each(logits: Floats, reference: Floats, ctx: ScoreContext, kind: str) -> Floats:
    """Effect on every sample, ``float[n]``."""
    logprobs = log_softmax(logits)
    if kind == "kl":
        divergence: Floats = (np.exp(reference) * (reference - logprobs)).sum(axis=1)
        return divergence
    assert ctx.labels is not None
    rows, labels = np.arange(len(logprobs)), ctx.labels.numpy()
    change: Floats = reference[rows, labels] - logprobs[rows, labels]
    return change


def _mean(samples: Floats, kind: str) -> float:
    # Rounding can leave a KL of zero a hair below it.
    return max(0.0, float(samples.mean())) if kind == "kl" else float(samples.mean())


def _standard_error(samples: Floats) -> float:
    return float(samples.std(ddof=1)) / len(samples) ** 0.5 if len(samples) > 1 else 0.0
