"""LAPQ: all step sizes of a policy chosen together, for the loss itself.

Nahshan et al., arXiv 1911.07190. Quantization errors of layers interact at low widths, so
layerwise optima are not the optimum. First the exponent ``p`` of an Lp error is chosen for all
ranges at once by the loss, then single step sizes are stretched or shrunk as long as the loss
falls (the paper's Powell search along coordinates, one round). The loss is the KL divergence from
the float model on the calibration inputs, so that no labels are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.activations import StaticQuantizer, static_qparams
from quant.affine import QParams
from quant.attach import Attachment, Filling
from quant.calibration import Lp, StreamingHistogram
from quant.formats import Format, Timing
from quant.ptq.codes import LayerWeight
from quant.weights import WeightQuantizer

_EXPONENTS = (2.0, 2.4, 3.0, 3.5, 4.0)
_FACTORS = (0.85, 1.15)
_SAMPLES = 100


@torch.no_grad()
def minimise_loss(
    model: nn.Module,
    attachment: Attachment,
    batches: Sequence[Tensor],
    filled: Mapping[str, Filling],
    jobs: Mapping[str, LayerWeight],
    inputs: Mapping[str, Format],
    histograms: Mapping[str, StreamingHistogram],
) -> dict[str, Filling]:
    """Slots with jointly chosen steps; never a larger loss than ``filled`` on the inputs used.

    Args:
        model: with ``attachment`` in place and empty slots.
        attachment: the slots; empty again afterwards.
        batches: calibration inputs; at most 100 samples (and one batch) are read.
        filled: slots without the repair.
        jobs: what rounds each layer's weight.
        inputs: activation format of each layer.
        histograms: of the layers' inputs.
    """
    used = _first(batches)
    reference = [F.log_softmax(model(batch).double(), dim=-1) for batch in used]

    def loss(slots: Mapping[str, Filling]) -> float:
        for name, filling in slots.items():
            attachment.set(name, **filling._asdict())
        found = [F.log_softmax(model(batch).double(), dim=-1) for batch in used]
        pairs = zip(reference, found, strict=True)
        return sum(float((r.exp() * (r - f)).sum()) for r, f in pairs)

    try:
        best, least = dict(filled), loss(filled)
        for exponent in _EXPONENTS:
            trial = {
                name: _with_lp(filling, jobs[name], inputs[name], histograms[name], exponent)
                for name, filling in filled.items()
            }
            found = loss(trial)
            if found < least:
                best, least = trial, found
        for stretch in _coordinates(best, jobs):
            for factor in _FACTORS:
                trial = stretch(best, factor)
                found = loss(trial)
                if found < least:
                    best, least = trial, found
                    break
        return best
    finally:
        attachment.clear()


def _with_lp(
    filling: Filling,
    job: LayerWeight,
    activation: Format,
    histogram: StreamingHistogram,
    exponent: float,
) -> Filling:
    """The layer with ranges of least Lp error, where its formats have ranges."""
    weight, quantizer = filling.weight, filling.input
    if weight is not None and not job.fmt.is_float and not job.fmt.is_fitted:
        weight = replace(job, calibrator=Lp(exponent)).quantizer()(job.weight)
    if quantizer is not None and not activation.is_float and activation.timing is Timing.STATIC:
        quantizer = StaticQuantizer(static_qparams(histogram, activation, Lp(exponent)))
    return filling._replace(weight=weight, input=quantizer)


def _coordinates(
    slots: Mapping[str, Filling], jobs: Mapping[str, LayerWeight]
) -> list[Callable[[Mapping[str, Filling], float], dict[str, Filling]]]:
    """One function per step size that stretches it and leaves all others."""

    def of_input(name: str) -> Callable[[Mapping[str, Filling], float], dict[str, Filling]]:
        def stretch(now: Mapping[str, Filling], factor: float) -> dict[str, Filling]:
            quantizer = now[name].input
            assert isinstance(quantizer, StaticQuantizer)
            wider = StaticQuantizer(_stretched(quantizer.qparams, factor))
            return {**now, name: now[name]._replace(input=wider)}

        return stretch

    def of_weight(name: str) -> Callable[[Mapping[str, Filling], float], dict[str, Filling]]:
        rounder = jobs[name].quantizer()

        def stretch(now: Mapping[str, Filling], factor: float) -> dict[str, Filling]:
            assert isinstance(rounder, WeightQuantizer)
            wider = replace(rounder, qparams=_stretched(rounder.qparams, factor))
            return {**now, name: now[name]._replace(weight=wider(jobs[name].weight))}

        return stretch

    moves = [
        of_input(name)
        for name, filling in slots.items()
        if isinstance(filling.input, StaticQuantizer) and not filling.input.qparams.fmt.is_float
    ]
    moves += [
        of_weight(name)
        for name, filling in slots.items()
        if filling.weight is not None and jobs[name].fmt.kind == "int"
    ]
    return moves


def _stretched(qparams: QParams, factor: float) -> QParams:
    return replace(qparams, scale=qparams.scale * factor)


def _first(batches: Sequence[Tensor]) -> list[Tensor]:
    """Whole batches up to the number of samples used, at least one."""
    used: list[Tensor] = []
    count = 0
    for batch in batches:
        if used and count + len(batch) > _SAMPLES:
            break
        used.append(batch)
        count += len(batch)
    return used
