"""AdaQuant: weights and step sizes learned together for the layer's output.

``min_{V,S} ||W u - Q_S(W + V) u||^2`` (Hubara et al., arXiv 2006.10518, equation 2), in moments
``tr(D H D^T)`` with ``H = E[u u^T]``. Unlike AdaRound a weight may move by more than one step.
The gradient of the step size is that of LSQ (Esser et al., arXiv 1902.08153).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from quant.affine import QParams, fake_quantize
from quant.ptq.rounding import better_rows, grouped, output_error, ungrouped
from quant.weights import WeightQuantizer

_STEPS = 300
_RATE = 0.02  # in steps of the grid, and in logarithms of the step


def learned_step(x: Tensor, scale: Tensor, qparams: QParams) -> Tensor:
    """Fake quantization differentiable in ``x`` and in ``scale``, which replaces the format's.

    ``dv/dS = round(x / S) - x / S`` inside the range and the clipped code outside. Hand it to a
    slot of :class:`quant.attach.Attachment` to learn a clipping range: the range of an integer
    format is ``scale`` times its codes.
    """
    fmt, zero = qparams.fmt, qparams.zero_point
    steps = torch.minimum(torch.maximum(x / scale, fmt.qmin - zero), fmt.qmax - zero)
    return (steps + (torch.round(steps) - steps).detach()) * scale


def adaquant(weight: Tensor, quantizer: WeightQuantizer, second: Tensor) -> Tensor:
    """The weight on a grid with learned steps, in the weight's shape.

    Never worse than rounding to the nearest in ``tr(D H D^T)``: every output channel takes the
    better of the two, with its own steps.

    Args:
        weight: float weight.
        quantizer: calibrated quantizer of an integer format with scales within one channel.
        second: ``E[u u^T]``, ``[groups, inputs, inputs]``.
    """
    layout, qparams, groups = quantizer.layout, quantizer.qparams, len(second)
    slices = layout.slice(weight.detach())
    metric = second.to(slices.dtype)
    rows = grouped(weight, layout, groups)
    nearest = grouped(quantizer(weight), layout, groups)
    unit = output_error(nearest - rows, metric).clamp(min=torch.finfo(rows.dtype).tiny)
    moved = torch.zeros_like(slices, requires_grad=True)
    stretch = torch.zeros_like(qparams.scale, requires_grad=True)
    optimizer = torch.optim.Adam([moved, stretch], lr=_RATE)

    def rounded() -> Tensor:
        steps = learned_step(
            slices + moved * qparams.scale, qparams.scale * stretch.exp(), qparams
        )
        return layout.unslice(steps)

    with torch.enable_grad():
        for _ in range(_STEPS):
            loss = output_error(_rows(rounded(), quantizer, groups) - rows, metric) / unit
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.no_grad():
        own = replace(qparams, scale=qparams.scale * stretch.exp())
        final = layout.unslice(fake_quantize(slices + moved * qparams.scale, own))
    kept = better_rows(grouped(final, layout, groups), nearest, rows, metric)
    return ungrouped(kept, weight, layout)


def _rows(weight: Tensor, quantizer: WeightQuantizer, groups: int) -> Tensor:
    """``[groups, out / groups, inputs]`` of a weight, differentiable."""
    channels = quantizer.layout.by_channel().slice(weight)
    return channels.reshape(groups, -1, channels.shape[1])
