"""How one layer's weight is rounded: every way by name, with what it asks for.

A way that lacks what it needs (moments of inputs no data reached, an integer grid) rounds to the
nearest, so that one name serves all layers and formats of a space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from quant.calibration import Calibrator
from quant.formats import Format, Granularity
from quant.ptq.adaquant import adaquant
from quant.ptq.moments import InputMoments
from quant.ptq.names import PLAIN, SPLIT
from quant.ptq.rounding import adaround, gptq
from quant.ptq.split import split_round
from quant.slices import SliceLayout
from quant.stochastic import stochastic_quantize
from quant.weights import Rounder, WeightQuantizer, weight_quantizer


@dataclass(frozen=True)
class LayerWeight:
    """A weight about to be rounded.

    Attributes:
        weight: float weight, finite.
        layout: its slices in the format's granularity.
        fmt: the format.
        calibrator: finds ranges.
        name: what the weight is called in messages.
        moments: of the layer's inputs, or None where none were gathered.
        generator: source of randomness.
        dense: whether every output reads every input.
    """

    weight: Tensor
    layout: SliceLayout
    fmt: Format
    calibrator: Calibrator
    name: str
    moments: InputMoments | None
    generator: torch.Generator
    dense: bool

    def quantizer(self, importance: Tensor | None = None) -> Rounder:
        """See :func:`quant.weights.weight_quantizer`."""
        return weight_quantizer(
            self.weight,
            self.layout,
            self.fmt,
            self.calibrator,
            name=self.name,
            importance=importance,
        )


def round_weight(job: LayerWeight, way: str = "") -> Tensor:
    """The rounded weight in the weight's shape; ``way`` is a key of :data:`WAYS`."""
    if job.fmt.is_float:
        return job.quantizer()(job.weight)
    return WAYS[way or PLAIN](job)


def _nearest(job: LayerWeight) -> Tensor:
    return job.quantizer()(job.weight)


def _gptq(job: LayerWeight) -> Tensor:
    quantizer = job.quantizer()
    if job.moments is None or not isinstance(quantizer, WeightQuantizer):
        return quantizer(job.weight)
    return gptq(job.weight, quantizer, job.moments.second)


def _learned(
    learn: Callable[[Tensor, WeightQuantizer, Tensor], Tensor], within_channel: bool
) -> Callable[[LayerWeight], Tensor]:
    """Ways that need an integer grid, and perhaps scales of their own for every channel."""

    def way(job: LayerWeight) -> Tensor:
        quantizer = job.quantizer()
        spread = job.fmt.granularity in (Granularity.TENSOR, Granularity.ROWS)
        fits = isinstance(quantizer, WeightQuantizer) and job.fmt.kind == "int"
        if job.moments is None or not fits or (within_channel and spread):
            return quantizer(job.weight)
        assert isinstance(quantizer, WeightQuantizer)
        return learn(job.weight, quantizer, job.moments.second)

    return way


def _hessian(job: LayerWeight) -> Tensor:
    """Codebooks fitted by the diagonal of the layer's Hessian, ``E[u^2]`` of each input."""
    if job.moments is None or not job.fmt.is_fitted:
        return _nearest(job)
    diagonal = job.moments.second.diagonal(dim1=1, dim2=2)
    by_channel = job.layout.by_channel()
    repeated = diagonal.repeat_interleave(job.layout.channels // len(diagonal), 0)
    # Divided by the mean: only ratios matter, and float32 holds them.
    importance = by_channel.unslice((repeated / diagonal.mean().clamp(min=1e-300)).to(job.weight))
    # Inputs that are always zero keep a little, or their weights would be anything.
    return job.quantizer(importance.clamp(min=1e-6))(job.weight)


def _stochastic(job: LayerWeight) -> Tensor:
    quantizer = job.quantizer()
    if not isinstance(quantizer, WeightQuantizer):
        return quantizer(job.weight)
    slices = job.layout.slice(job.weight)
    return job.layout.unslice(stochastic_quantize(slices, quantizer.qparams, job.generator))


def _split(job: LayerWeight) -> Tensor:
    if not job.dense:
        return _nearest(job)
    return split_round(job.weight, job.layout, job.fmt, job.calibrator, name=job.name)


WAYS: Mapping[str, Callable[[LayerWeight], Tensor]] = {
    PLAIN: _nearest,
    "gptq": _gptq,
    "adaround": _learned(adaround, within_channel=False),
    "adaquant": _learned(adaquant, within_channel=True),
    "hessian": _hessian,
    "stochastic": _stochastic,
    SPLIT: _split,
}
