"""Choosing codes by the error of a layer's output instead of the weight's own.

GPTQ (Frantar et al., arXiv 2210.17323) rounds one input after another and lets the inputs not
yet rounded make up for the error, in closed form. AdaRound (Nagel et al., arXiv 2004.10568)
learns for every weight whether to round up or down. Both minimise ``tr(D H D^T)`` with
``H = E[u u^T]``, see :mod:`quant.ptq.moments`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from quant.affine import QParams, fake_quantize
from quant.slices import SliceLayout
from quant.weights import WeightQuantizer

_DAMP = 0.01  # share of the mean diagonal added to it, as in the GPTQ paper
_STEPS = 400
_RATE = 0.02
_PENALTY = 0.01  # weighs "all rounded" against the error in units of plain rounding's
_SOFT = 0.2  # first share of the steps without the penalty


def output_error(change: Tensor, second: Tensor) -> Tensor:
    """``tr(D H D^T)``: mean squared change of the output, summed over channels, 0-dim.

    Args:
        change: ``[groups, out / groups, inputs]``.
        second: ``[groups, inputs, inputs]``.
    """
    return ((change @ second) * change).sum()


def gptq(weight: Tensor, quantizer: WeightQuantizer, second: Tensor) -> Tensor:
    """The weight on the quantizer's grid with errors passed on, in the weight's shape.

    With inputs that do not correlate this is rounding to the nearest. The greedy order can lose
    against it where much is clipped, so every output channel takes the better of the two.

    Args:
        weight: float weight.
        quantizer: calibrated quantizer; its scales are kept.
        second: ``E[u u^T]``, ``[groups, inputs, inputs]``.
    """
    rows = grouped(weight, quantizer.layout, len(second)).double()
    columns = _Columns(quantizer, len(second))
    upper = _inverse_factor(second)
    result = torch.empty_like(rows)
    for j in range(rows.shape[2]):
        column = rows[:, :, j]
        result[:, :, j] = columns.round(column, j)
        passed = (column - result[:, :, j]) / upper[:, None, j, j]
        rows[:, :, j + 1 :] -= passed[:, :, None] * upper[:, None, j, j + 1 :]
    original, nearest = (
        grouped(w, quantizer.layout, len(second)).double() for w in (weight, quantizer(weight))
    )
    return ungrouped(better_rows(result, nearest, original, second), weight, quantizer.layout)


def adaround(weight: Tensor, quantizer: WeightQuantizer, second: Tensor) -> Tensor:
    """The weight rounded up or down as the layer's output likes it, in the weight's shape.

    Never worse than rounding to the nearest in ``tr(D H D^T)``: every output channel takes the
    better of the two. Starts from the fractions of the weights, hence is deterministic.

    Args:
        weight: float weight.
        quantizer: calibrated quantizer of an integer format.
        second: ``E[u u^T]``, ``[groups, inputs, inputs]``.
    """
    groups, layout = len(second), quantizer.layout
    scale = grouped(_per_weight(quantizer.qparams.scale, layout), layout, groups)
    shift = grouped(_per_weight(quantizer.qparams.zero_point, layout), layout, groups)
    rows, fmt = grouped(weight, layout, groups), quantizer.qparams.fmt
    floor = torch.floor(rows / scale)
    low, high = fmt.qmin - shift, fmt.qmax - shift

    def placed(up: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(floor + up, low), high) * scale

    nearest = grouped(quantizer(weight), layout, groups)
    metric = second.to(rows.dtype)
    unit = output_error(nearest - rows, metric).clamp(min=torch.finfo(rows.dtype).tiny)
    ups = _learn_ups(
        rows / scale - floor, lambda up: output_error(placed(up) - rows, metric) / unit
    )
    learned = placed(ups)
    return ungrouped(better_rows(learned, nearest, rows, metric), weight, layout)


class _Columns:
    """Rounds one input column of every output channel with the scales of its slices."""

    def __init__(self, quantizer: WeightQuantizer, groups: int) -> None:
        self._qparams, layout = quantizer.qparams, quantizer.layout
        slices = torch.arange(len(self._qparams.scale))[:, None]
        self._slice = grouped(_per_weight(slices, layout), layout, groups)

    def round(self, column: Tensor, j: int) -> Tensor:
        """``column [groups, out / groups]`` on the grid, same shape."""
        q, index = self._qparams, self._slice[:, :, j].reshape(-1)
        levels = None if q.levels is None else q.levels[index]
        own = QParams(q.scale[index], q.zero_point[index], q.fmt, levels)
        values = column.reshape(-1, 1).to(q.scale.dtype)
        return fake_quantize(values, own).reshape(column.shape).to(column.dtype)


def better_rows(repaired: Tensor, nearest: Tensor, rows: Tensor, second: Tensor) -> Tensor:
    """For every output channel, the one of two weights with the smaller output error."""
    errors = [
        (((candidate - rows) @ second) * (candidate - rows)).sum(2, keepdim=True)
        for candidate in (repaired, nearest)
    ]
    return torch.where(errors[0] < errors[1], repaired, nearest)


def _inverse_factor(second: Tensor) -> Tensor:
    """Upper factor ``U`` of ``H^-1 = U^T U``, damped so that it exists, ``[groups, n, n]``."""
    diagonal = second.diagonal(dim1=1, dim2=2).mean(1)
    damp = torch.where(diagonal > 0, _DAMP * diagonal, torch.ones_like(diagonal))
    identity = torch.eye(second.shape[1], dtype=second.dtype)
    inverse = torch.cholesky_inverse(
        torch.linalg.cholesky(second + damp[:, None, None] * identity)
    )
    upper: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return upper


def _learn_ups(fraction: Tensor, error: Callable[[Tensor], Tensor]) -> Tensor:
    """0 or 1 per weight: Adam on ``h = clip(1.2 sigmoid(v) - 0.1, 0, 1)``."""
    start = ((fraction + 0.1) / 1.2).clamp(1e-4, 1 - 1e-4).logit()
    v = start.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([v], lr=_RATE)
    with torch.enable_grad():
        for step in range(_STEPS):
            soft = soft_ups(v)
            loss = error(soft)
            past = (step / _STEPS - _SOFT) / (1 - _SOFT)
            if past > 0:
                loss = loss + rounding_penalty(soft, past)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return (v.detach() > 0).to(fraction.dtype)


def soft_ups(v: Tensor) -> Tensor:
    """``h = clip(1.2 sigmoid(v) - 0.1, 0, 1)``, the share of a step rounded up."""
    return (1.2 * torch.sigmoid(v) - 0.1).clamp(0, 1)


def rounding_penalty(ups: Tensor, past: float) -> Tensor:
    """``lambda sum(1 - |2h - 1|^beta)`` with ``beta`` falling from 20 to 2, 0-dim.

    Args:
        ups: shares of a step in [0, 1].
        past: progress of the annealing, 0 to 1.
    """
    return _PENALTY * (1 - (2 * ups - 1).abs().pow(20 - 18 * past)).sum()


def _per_weight(per_slice: Tensor, layout: SliceLayout) -> Tensor:
    """``[S, 1]`` values repeated for every weight of their slice, in the weight's shape."""
    return layout.unslice(per_slice.expand(len(per_slice), layout.width))


def grouped(weight: Tensor, layout: SliceLayout, groups: int) -> Tensor:
    """``[groups, out / groups, inputs]`` copy of a weight."""
    rows = layout.by_channel().slice(weight.detach())
    return rows.reshape(groups, -1, rows.shape[1]).clone()


def ungrouped(rows: Tensor, weight: Tensor, layout: SliceLayout) -> Tensor:
    """The inverse of :func:`grouped`, in the type of ``weight``."""
    return layout.by_channel().unslice(rows.flatten(0, 1)).to(weight)
