"""Outlier channel splitting: inputs with the largest weights are duplicated and halved.

OCS (Zhao et al., arXiv 1901.09504). A duplicated input with ``w = w1 + w2`` leaves the function
as it is and halves the largest magnitude, so that the grid gets finer. The halves are
``(w - S/2) / 2`` and ``(w + S/2) / 2`` with ``S`` the step of the grid, whose roundings sum up to
that of ``w``. The layer stores and computes 5 % more inputs, which costs and sizes count.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from quant.calibration import Calibrator
from quant.formats import Format
from quant.ptq.names import extra_channels
from quant.slices import SliceLayout
from quant.weights import WeightQuantizer, weight_quantizer


def split_round(
    weight: Tensor, layout: SliceLayout, fmt: Format, calibrator: Calibrator, *, name: str = ""
) -> Tensor:
    """What the split and rounded weight computes, folded back into the weight's shape.

    Args:
        weight: ``[out, in, *kernel]`` of a dense layer.
        layout: its layout in the format's granularity.
        fmt: the format.
        calibrator: finds the ranges of the split weight.
        name: what the weight is called in messages.
    """
    sources = outlier_channels(weight, extra_channels(weight.shape[1]))
    wide = replace(layout, shape=(len(weight), weight.shape[1] + len(sources), *weight.shape[2:]))
    halves = split_channels(weight, sources, torch.zeros_like(weight[:1]))
    quantizer = weight_quantizer(halves, wide, fmt, calibrator, name=name)
    if isinstance(quantizer, WeightQuantizer) and fmt.kind == "int":
        scale = quantizer.qparams.scale
        steps = wide.unslice(scale.expand(len(scale), wide.width))[:, : weight.shape[1]]
        return merge_channels(quantizer(split_channels(weight, sources, steps)), sources)
    return merge_channels(quantizer(halves), sources)


def outlier_channels(weight: Tensor, count: int) -> list[int]:
    """Inputs to duplicate, the one with the largest remaining magnitude each time.

    No input is taken twice: a half does not need another half before the others had theirs.
    """
    peaks = weight.abs().transpose(0, 1).flatten(1).amax(1)
    return [int(i) for i in peaks.argsort(descending=True, stable=True)[:count]]


def split_channels(weight: Tensor, sources: list[int], steps: Tensor) -> Tensor:
    """``[out, in + len(sources), ...]``: halves in place, the other halves at the end.

    Args:
        weight: ``[out, in, ...]``.
        sources: inputs to split.
        steps: the grid's steps, broadcastable to the weight; 0 gives equal halves.
    """
    steps = steps.expand_as(weight)[:, sources]
    halved = weight.clone()
    halved[:, sources] = (weight[:, sources] - steps / 2) / 2
    return torch.cat([halved, (weight[:, sources] + steps / 2) / 2], dim=1)


def merge_channels(wide: Tensor, sources: list[int]) -> Tensor:
    """Adds the duplicates back: the weight a plain layer would need for the same output."""
    inputs = wide.shape[1] - len(sources)
    merged = wide[:, :inputs].clone()
    merged[:, sources] += wide[:, inputs:]
    return merged
