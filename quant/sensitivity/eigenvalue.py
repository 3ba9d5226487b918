"""HAWQ v1's score: the largest Hessian eigenvalue of each layer times its squared error.

``lambda_max / 2 * |Q(w) - w|^2`` is the most a perturbation of that length can change the loss to
second order (Dong et al., HAWQ, arXiv 1905.03696, section 3; its order of fine-tuning is ranked
by ``lambda |Q(w) - w|^2``). Power iteration runs for all layers at once on the same gradients.
Inputs are not scored: widths of activations cannot be told apart.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from quant.errors import UsageError
from quant.sensitivity.base import Progress, ScoreContext, ScoreTable, padded
from quant.sensitivity.blocks import Block, Loss, Slope, differentiable, no_derivative
from quant.sensitivity.taps import labelled_batches


@dataclass(frozen=True)
class TopEigenvalue:
    """See the module docstring.

    Attributes:
        tolerance: relative change of an eigenvalue at which its layer has converged, > 0.
        max_steps: at most this many power iterations.
        loss: ``(output, labels) -> mean loss``.

    Raises:
        UsageError: a number out of range.
    """

    kind: ClassVar[str] = "eigenvalue"
    needs_data: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = True
    tolerance: float = 0.02
    max_steps: int = 20
    loss: Loss = cross_entropy

    def __post_init__(self) -> None:
        if not (self.tolerance > 0 and self.max_steps >= 2):
            raise UsageError(
                f"tolerance {self.tolerance}, max_steps {self.max_steps}",
                where="score.eigenvalue",
                expected="tolerance > 0 and max_steps >= 2",
            )

    def passes(self, choices: Sequence[int]) -> float:
        """See :meth:`quant.sensitivity.base.Score.passes`."""
        return self.max_steps * (3.0 + 4.0 * len(choices))

    def compute(self, ctx: ScoreContext, progress: Progress | None = None) -> ScoreTable:
        """See :meth:`quant.sensitivity.base.Score.compute`.

        Raises:
            UsageError: no labels, or an op that cannot be differentiated twice (it is named).
        """
        start = time.perf_counter()
        values, steps, settled = self.eigenvalues(ctx, progress)
        model = ctx.quantized
        rows = [
            [
                sum(
                    max(values[layer], 0.0)
                    / 2
                    * model.weight_error(layer, choice.weight, choice.method)
                    for layer in group
                )
                for choice in choices
            ]
            for group, choices in zip(ctx.groups, ctx.choices, strict=True)
        ]
        table = padded(rows)
        notes = [f"{steps} power iterations; inputs are not scored"]
        if not settled:
            notes.append(f"the tolerance of {self.tolerance:g} was not reached")
        work = steps * (3.0 + 4.0 * len(ctx.layers))
        seconds = time.perf_counter() - start
        curvature = [
            sum(max(values[layer], 0.0) for layer in group)
            / max(sum(model.original(layer).numel() for layer in group), 1)
            for group in ctx.groups
        ]
        return ScoreTable(
            self.kind,
            table,
            table * 0,
            seconds,
            work,
            tuple(notes),
            curvature=np.array(curvature),
        )

    def eigenvalues(
        self, ctx: ScoreContext, progress: Progress | None = None
    ) -> tuple[dict[str, float], int, bool]:
        """Eigenvalue of largest magnitude by layer, steps taken, and whether all converged."""
        batches = labelled_batches(ctx, self.kind)
        vectors = {name: _unit(_random(ctx, name)) for name in ctx.layers}
        values = dict.fromkeys(ctx.layers, 0.0)
        with differentiable(ctx.quantized, ctx.layers, inputs=False) as leaves:
            for step in range(1, self.max_steps + 1):
                products = {name: torch.zeros_like(vector) for name, vector in vectors.items()}
                for x, labels in batches:
                    share = len(labels) / len(ctx.inputs)
                    slopes = leaves.slopes(x, labels, self.loss)
                    for name in ctx.layers:
                        slope = slopes[Block(name, "weight")]
                        products[name] += share * _times(slope, vectors[name])
                found = {n: float((vectors[n] * p).sum()) for n, p in products.items()}
                moved = [abs(found[n] - values[n]) > self.tolerance * abs(found[n]) for n in found]
                values = found
                vectors = {n: _unit(p) if float(p.norm()) else p for n, p in products.items()}
                if progress:
                    progress(step, self.max_steps)
                if step > 1 and not any(moved):
                    return values, step, True
        return values, self.max_steps, False


def _random(ctx: ScoreContext, layer: str) -> Tensor:
    weight = ctx.quantized.original(layer)
    return torch.randn(weight.shape, generator=ctx.generator, dtype=weight.dtype)


def _unit(vector: Tensor) -> Tensor:
    unit: Tensor = vector / vector.norm()
    return unit


def _times(slope: Slope, vector: Tensor) -> Tensor:
    """Hessian of one batch times a vector; zero where the loss is linear in the block."""
    if not slope.grads or not slope.grads[0].requires_grad:
        return torch.zeros_like(vector)
    try:
        products: Sequence[Tensor | None] = torch.autograd.grad(
            slope.grads, slope.leaves, [vector], retain_graph=True, allow_unused=True
        )
    except RuntimeError as cause:
        raise no_derivative(str(cause)) from cause
    product = products[0]
    if product is None:
        return torch.zeros_like(vector)
    result: Tensor = product.detach()
    return result
