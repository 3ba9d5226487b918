"""FIT: empirical Fisher traces of weights and inputs times squared quantization errors.

``FIT = sum_l tr(I(w_l)) |dw_l|^2 / n(w_l) + tr(I(a_l)) |da_l|^2 / n(a_l)`` with ``tr(I)`` the mean
squared norm of per-sample gradients (Zandonati et al., FIT, arXiv 2210.08502, equations 4 and 7).
No second derivative is needed. Samples are differentiated one at a time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from quant.model import LayerChoice
from quant.sensitivity.base import Progress, ScoreContext, ScoreTable, padded
from quant.sensitivity.blocks import Block, Loss, differentiable
from quant.sensitivity.taps import labelled_batches


@dataclass(frozen=True)
class Fit:
    """See the module docstring.

    Attributes:
        activations: whether inputs are scored as well.
        loss: ``(output, labels) -> mean loss``.
    """

    kind: ClassVar[str] = "fit"
    needs_data: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = True
    activations: bool = True
    loss: Loss = cross_entropy

    def passes(self, choices: Sequence[int]) -> float:
        """See :meth:`quant.sensitivity.base.Score.passes`."""
        return 3.0

    def compute(self, ctx: ScoreContext, progress: Progress | None = None) -> ScoreTable:
        """See :meth:`quant.sensitivity.base.Score.compute`.

        Raises:
            UsageError: no labels, or an op of the model without a gradient (it is named).
        """
        start = time.perf_counter()
        traces = self.traces(ctx, progress)
        rows = [
            [_score(ctx, traces, group, choice) for choice in choices]
            for group, choices in zip(ctx.groups, ctx.choices, strict=True)
        ]
        return ScoreTable(
            self.kind,
            padded([[value for value, _ in row] for row in rows]),
            padded([[error for _, error in row] for row in rows]),
            time.perf_counter() - start,
            3.0,
        )

    def traces(
        self, ctx: ScoreContext, progress: Progress | None = None
    ) -> dict[Block, tuple[float, float]]:
        """Mean squared gradient norm over samples and its standard error, by block."""
        batches = labelled_batches(ctx, self.kind)
        norms: dict[Block, list[float]] = {}
        with differentiable(ctx.quantized, ctx.layers, inputs=self.activations) as leaves:
            for done, (x, labels) in enumerate(batches, 1):
                for row in range(len(x)):
                    one = slice(row, row + 1)
                    slopes = leaves.slopes(x[one], labels[one], self.loss)
                    for block, slope in slopes.items():
                        norms.setdefault(block, []).append(_norm(slope.grads))
                if progress:
                    progress(done, len(batches))
        return {block: _mean(values) for block, values in norms.items()}


def _norm(grads: list[Tensor]) -> float:
    return sum(float(grad.detach().double().square().sum()) for grad in grads)


def _mean(values: list[float]) -> tuple[float, float]:
    data = torch.tensor(values, dtype=torch.float64)
    error = float(data.std()) / math.sqrt(len(data)) if len(data) > 1 else 0.0
    return float(data.mean()), error


def _score(
    ctx: ScoreContext,
    traces: dict[Block, tuple[float, float]],
    group: tuple[str, ...],
    choice: LayerChoice,
) -> tuple[float, float]:
    """Score of one choice of one group, and its standard error."""
    model = ctx.quantized
    total, variance = 0.0, 0.0
    for layer in group:
        squared = model.weight_error(layer, choice.weight, choice.method)
        errors = {"weight": squared / max(model.original(layer).numel(), 1)}
        errors["input"] = model.input_error(layer, choice.activation)
        for tensor, error in errors.items():
            trace, uncertain = traces.get(Block(layer, tensor), (0.0, 0.0))
            total += trace * error
            variance += (uncertain * error) ** 2
    return total, math.sqrt(variance)
