"""HAWQ's second-order score: curvature of the loss times squared quantization error.

``Omega = tr(H) / n * |Q(w) - w|^2`` per weight of ``n`` elements, summed over the layers of a
group (Dong et al., HAWQ-V2, arXiv 1911.03852; Yao et al., HAWQ-V3, arXiv 2011.10680). The
tensors entering the layers are scored by the same formula (HAWQ-V2, section 3.3), else widths of
activations could not be told apart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from quant.errors import UsageError, unknown
from quant.model import LayerChoice, QuantizedModel
from quant.sensitivity.base import Floats, Progress, ScoreContext, ScoreTable, padded
from quant.sensitivity.blocks import Block, Loss, differentiable
from quant.sensitivity.trace import TraceEstimate, quadratic_forms

PROBES = ("layer", "group", "all")
# A forward and a backward pass; differentiating both of them once more.
_GRADIENT_WORK, _PROBE_WORK = 3.0, 4.0


@dataclass(frozen=True)
class Hutchinson:
    """Hessian traces by random probes, times squared errors.

    One probe draws a random vector for every batch. Drawn over one block at a time
    (``"layer"``) the estimates have the smallest variance; drawn over a tie group or over all
    layers at once a probe costs less but carries the noise of the other layers. Weights and
    inputs are never drawn together.

    Blocks drawn together are probed until all of their standard errors over trace are below
    ``tolerance``, never until a mean has stopped changing, and at most ``max_probes`` times.
    Since each batch has its own vectors, small batches give more of them for the same work.
    Traces below zero are clipped at 0 and counted in the notes. The standard errors of a
    group's layers are added as if independent.

    Attributes:
        probe: ``"layer"``, ``"group"`` or ``"all"``.
        tolerance: relative standard error to reach, > 0.
        max_probes: at most this many probes of each block.
        round_probes: probes between two checks of the standard error, >= 2.
        activations: whether inputs are scored as well.
        loss: ``(output, labels) -> mean loss``.

    Raises:
        UsageError: unknown probe or a number out of range.
    """

    kind: ClassVar[str] = "hutchinson"
    needs_data: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True
    needs_gradients: ClassVar[bool] = True
    probe: str = "layer"
    tolerance: float = 0.1
    max_probes: int = 32
    round_probes: int = 4
    activations: bool = True
    loss: Loss = cross_entropy

    def __post_init__(self) -> None:
        if self.probe not in PROBES:
            raise unknown("probe", self.probe, PROBES, where="hutchinson.probe")
        if not (self.tolerance > 0 and 2 <= self.round_probes <= self.max_probes):
            raise UsageError(
                f"tolerance {self.tolerance}, round_probes {self.round_probes}, "
                f"max_probes {self.max_probes}",
                where="hutchinson",
                expected="tolerance > 0 and 2 <= round_probes <= max_probes",
            )

    def passes(self, choices: Sequence[int]) -> float:
        """See :meth:`quant.sensitivity.base.Score.passes`."""
        return _GRADIENT_WORK * self.max_probes + 2 * _PROBE_WORK * self.max_probes * len(choices)

    def compute(self, ctx: ScoreContext, progress: Progress | None = None) -> ScoreTable:
        """See :meth:`quant.sensitivity.base.Score.compute`.

        Raises:
            UsageError: no labels, no inputs, or an op of the model that cannot be
                differentiated twice (it is named).
        """
        start = time.perf_counter()
        traces, work = self.traces(ctx, progress)
        scored = [
            [_score(ctx.quantized, traces, group, choice) for choice in choices]
            for group, choices in zip(ctx.groups, ctx.choices, strict=True)
        ]
        return ScoreTable(
            self.kind,
            padded([[value for value, _ in row] for row in scored]),
            padded([[error for _, error in row] for row in scored]),
            time.perf_counter() - start,
            work,
            _notes(traces, self.tolerance),
            curvature=_mean_traces(ctx, traces),
        )

    def traces(
        self, ctx: ScoreContext, progress: Progress | None = None
    ) -> tuple[dict[Block, TraceEstimate], float]:
        """Estimated traces of all blocks, and the work they took in forward equivalents."""
        batches, joint = _batches(ctx), self._joint(ctx)
        shares = [len(labels) / len(ctx.inputs) for _, labels in batches]
        traces = {block: TraceEstimate(shares) for blocks in joint for block in blocks}
        inputs = any(block.tensor == "input" for block in traces)
        probes, work = 0, 0.0
        with differentiable(ctx.quantized, ctx.layers, inputs=inputs) as leaves:
            while joint and probes < self.max_probes:
                count = min(self.round_probes, self.max_probes - probes)
                for index, (x, labels) in enumerate(batches):
                    slopes = leaves.slopes(x, labels, self.loss)
                    for blocks in joint * count:
                        forms = quadratic_forms([slopes[b] for b in blocks], ctx.generator)
                        for block, form in zip(blocks, forms, strict=True):
                            traces[block].add(index, form)
                probes += count
                work += _GRADIENT_WORK + _PROBE_WORK * count * len(joint)
                joint = [blocks for blocks in joint if self._unsure(traces, blocks)]
                if progress:
                    progress(probes, self.max_probes)
        return traces, work

    def _unsure(self, traces: Mapping[Block, TraceEstimate], blocks: Sequence[Block]) -> bool:
        return any(traces[block].relative_error >= self.tolerance for block in blocks)

    def _joint(self, ctx: ScoreContext) -> list[list[Block]]:
        """Blocks that share a random vector."""
        sets = {
            "layer": [[layer] for layer in ctx.layers],
            "group": [list(group) for group in ctx.groups],
            "all": [list(ctx.layers)],
        }[self.probe]
        rounded = any(not c.activation.is_float for choices in ctx.choices for c in choices)
        tensors = ["weight", "input"] if self.activations and rounded else ["weight"]
        return [[Block(name, tensor) for name in names] for tensor in tensors for names in sets]


def _batches(ctx: ScoreContext) -> list[tuple[Tensor, Tensor]]:
    if ctx.labels is None:
        raise UsageError(
            "score 'hutchinson' needs labels",
            expected="labels of the calibration data",
            fix="use a score without labels, for example sqnr",
        )
    if not len(ctx.inputs) or len(ctx.inputs) != len(ctx.labels):
        raise UsageError(
            f"{len(ctx.inputs)} inputs and {len(ctx.labels)} labels to score on",
            expected="the same number of both, at least one",
        )
    size = ctx.batch_size
    return list(zip(torch.split(ctx.inputs, size), torch.split(ctx.labels, size), strict=True))


def _score(
    model: QuantizedModel,
    traces: Mapping[Block, TraceEstimate],
    group: Sequence[str],
    choice: LayerChoice,
) -> tuple[float, float]:
    """Score of one choice of one group, and its standard error."""
    total, variance = 0.0, 0.0
    for layer in group:
        # Mean squared error: the squared distance of the formula over the n of the mean trace.
        squared = model.weight_error(layer, choice.weight, choice.method)
        errors = {"weight": squared / max(model.original(layer).numel(), 1)}
        if Block(layer, "input") in traces:
            errors["input"] = model.input_error(layer, choice.activation)
        for tensor, error in errors.items():
            trace = traces[Block(layer, tensor)]
            total += max(trace.mean, 0.0) * error
            variance += (trace.standard_error * error) ** 2
    return total, math.sqrt(variance)


def _mean_traces(ctx: ScoreContext, traces: Mapping[Block, TraceEstimate]) -> Floats:
    """Trace by the weights of each group over their number, ``float64[groups]``."""
    means = []
    for group in ctx.groups:
        total = sum(max(traces[Block(layer, "weight")].mean, 0.0) for layer in group)
        means.append(total / max(sum(ctx.quantized.original(name).numel() for name in group), 1))
    return np.array(means)


def _notes(traces: Mapping[Block, TraceEstimate], tolerance: float) -> tuple[str, ...]:
    probes = max((trace.count for trace in traces.values()), default=0)
    worst = max((trace.relative_error for trace in traces.values()), default=0.0)
    negative = sum(trace.mean < 0 for trace in traces.values())
    notes = [f"at most {probes} probes, largest standard error over trace {worst:.2g}"]
    if worst >= tolerance:
        notes.append(f"the tolerance of {tolerance:g} was not reached")
    if negative:
        notes.append(f"{negative} of {len(traces)} traces were negative and count as 0")
    return tuple(notes)
