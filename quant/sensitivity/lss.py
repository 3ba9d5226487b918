"""Logit superposition as a score: single-layer KL, and a surrogate for whole policies.

The table's values are the single-layer KL (an additive solver must not be given negative,
noisy numbers); :class:`~quant.sensitivity.superposition.Superposition` predicts everything else
from the same passes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from quant.errors import UsageError
from quant.sensitivity.base import Progress, ScoreContext, ScoreTable
from quant.sensitivity.divergence import effects
from quant.sensitivity.shifts import logit_shifts
from quant.sensitivity.superposition import Superposition, sketched


@dataclass(frozen=True)
class LogitSuperposition:
    """Single-layer KL with a superposition surrogate.

    Attributes:
        classes: with more classes than this, a sketch keeps the likeliest of every sample and
            gathers the others in one bucket.

    Raises:
        UsageError: fewer than 2 classes kept.
    """

    kind: ClassVar[str] = "lss"
    needs_data: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = False
    classes: int = 64

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise UsageError(
                f"classes is {self.classes}", where="score.lss.classes", expected="at least 2"
            )

    def passes(self, choices: Sequence[int]) -> float:
        """See :meth:`quant.sensitivity.base.Score.passes`."""
        return 1.0 + sum(choices)

    def compute(self, ctx: ScoreContext, progress: Progress | None = None) -> ScoreTable:
        """See :meth:`quant.sensitivity.base.Score.compute`.

        Raises:
            DataError: the model answers NaN under a choice (the layer is named).
        """
        start = time.perf_counter()
        found = logit_shifts(ctx, progress)
        value, error = effects(found, ctx, "kl")
        labels = None if ctx.labels is None else ctx.labels.numpy()
        surrogate = Superposition(found.base, found.shifts, labels)
        if found.base.shape[1] > self.classes:
            surrogate = sketched(surrogate, self.classes)
        return ScoreTable(
            self.kind,
            value,
            error,
            time.perf_counter() - start,
            found.forward_equivalents,
            found.notes,
            surrogate,
        )
