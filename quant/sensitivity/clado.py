"""CLADO: measured pair effects as a quadratic form over one-hot choices.

``dL(x) = x' G x / 2`` with ``G[i,i] = 2 dL(i)`` and ``G[i,j] = dL(i,j) - dL(i) - dL(j)`` for
choices of different groups (Deng et al., CLADO, arXiv 2307.05657, equation 9). Measured with
noise the matrix is indefinite and an optimiser exploits that, so it is projected onto the
positive semidefinite cone. The number of passes grows with the square of groups times choices.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from quant.errors import UsageError
from quant.sensitivity.base import Floats, Progress, ScoreContext, ScoreTable
from quant.sensitivity.divergence import effects
from quant.sensitivity.shifts import is_float, logit_shifts, runs_of

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PairTable:
    """Quadratic form of a space.

    Attributes:
        base: cross-entropy of the float model, nats.
        form: ``G``, ``float64[groups, most choices, groups, most choices]``.
    """

    base: float
    form: Floats

    def predict(self, codes: Codes) -> dict[str, Floats]:
        """Cross-entropy of policies ``int[P, groups]``, ``{"ce": float[P]}`` in nats."""
        codes = np.atleast_2d(codes)
        groups = np.arange(codes.shape[1])
        total = np.zeros(len(codes))
        for g in groups:
            rows = self.form[g, codes[:, g]]
            total += rows[np.arange(len(codes))[:, None], groups, codes].sum(axis=1)
        return {"ce": self.base + total / 2}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The fields as plain arrays."""
        return {"base": np.array(self.base), "form": self.form}


@dataclass(frozen=True)
class Clado:
    """Single and pair changes of cross-entropy; the table's values are the single-layer KL.

    Attributes:
        psd: project the form onto the positive semidefinite cone.
        max_passes: refuse spaces whose pairs need more passes than this.
    """

    kind: ClassVar[str] = "clado"
    needs_data: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = False
    psd: bool = True
    max_passes: int = 5000

    def passes(self, choices: Sequence[int]) -> float:
        """See :meth:`quant.sensitivity.base.Score.passes`."""
        return 1.0 + sum(choices) + (sum(choices) ** 2 - sum(c * c for c in choices)) / 2

    def compute(self, ctx: ScoreContext, progress: Progress | None = None) -> ScoreTable:
        """See :meth:`quant.sensitivity.base.Score.compute`.

        Raises:
            UsageError: no labels, or more pairs than ``max_passes``.
            DataError: the model answers NaN under a choice (the layer is named).
        """
        start = time.perf_counter()
        if ctx.labels is None:
            raise UsageError("score 'clado' needs labels", fix="use the score 'lss' or 'kl'")
        pairs = list(_pairs(ctx))
        if len(pairs) > self.max_passes:
            raise UsageError(
                f"the pairs of {len(ctx.groups)} groups need {len(pairs)} passes",
                where="score.clado.max_passes",
                expected=f"at most {self.max_passes}",
                fix="use the score 'lss', which needs one pass per group and choice, or raise it",
            )
        singles = logit_shifts(ctx)
        reference = _ce(torch.from_numpy(singles.base), ctx.labels)
        alone, _ = effects(singles, ctx, "ce")
        form, work = self._form(ctx, alone, reference, pairs, progress)
        value, error = effects(singles, ctx, "kl")
        seconds = time.perf_counter() - start
        passes = singles.forward_equivalents + work
        notes = (*singles.notes, f"{len(pairs)} pairs measured")
        return ScoreTable(
            self.kind, value, error, seconds, passes, notes, PairTable(reference, form)
        )

    @torch.no_grad()
    def _form(
        self,
        ctx: ScoreContext,
        alone: Floats,
        reference: float,
        pairs: list[tuple[int, int, int, int]],
        progress: Progress | None,
    ) -> tuple[Floats, float]:
        assert ctx.labels is not None
        alone = np.nan_to_num(alone)
        form = np.zeros(alone.shape * 2)
        for g, c in np.ndindex(*alone.shape):
            form[g, c, g, c] = 2 * alone[g, c]
        runs, work = runs_of(ctx), 0.0
        for done, (g, c, h, d) in enumerate(pairs, 1):
            runs.at((*ctx.groups[g], *ctx.groups[h]))
            first = dict.fromkeys(ctx.groups[g], ctx.choices[g][c])
            ctx.quantized.apply(first | dict.fromkeys(ctx.groups[h], ctx.choices[h][d]))
            both = _ce(runs.logits(), ctx.labels) - reference
            form[g, c, h, d] = form[h, d, g, c] = both - alone[g, c] - alone[h, d]
            work += runs.share
            if progress:
                progress(done, len(pairs))
        ctx.quantized.float_()
        return (projected(form) if self.psd else form), work


def projected(form: Floats) -> Floats:
    """The nearest positive semidefinite form, in the Frobenius norm."""
    size = form.shape[0] * form.shape[1]
    values, vectors = np.linalg.eigh(form.reshape(size, size))
    kept: Floats = (vectors * np.maximum(values, 0)) @ vectors.T
    return kept.reshape(form.shape)


def _pairs(ctx: ScoreContext) -> Iterator[tuple[int, int, int, int]]:
    """Choices that are not float, of two different groups."""
    rounded = [
        [c for c, choice in enumerate(choices) if not is_float(choice)] for choices in ctx.choices
    ]
    for g, first in enumerate(rounded):
        for h in range(g + 1, len(rounded)):
            for c in first:
                for d in rounded[h]:
                    yield g, c, h, d


def _ce(logits: Tensor, labels: Tensor) -> float:
    return float(F.cross_entropy(logits.double(), labels))
