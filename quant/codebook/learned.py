"""Levels learned by gradient, as trained non-uniform quantizers hold them.

Starting from the uniform grid, Adam moves the first level and the logarithms of the gaps (so that
levels stay in order) against the squared error of the nearest level (the codebook half of DDQ,
Zhang et al., arXiv 2106.02295). The best levels seen are kept, the uniform ones included.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quant.affine import QParams
from quant.formats import Format
from quant.levels import nearest_level, pick_level

_STEPS = 150
_RATE = 0.05


def learned(slices: Tensor, weights: Tensor, fmt: Format) -> QParams:
    """``2^bits`` learned levels per slice; see :func:`quant.codebook.fit`. The scale is 1."""
    levels = learn_levels(slices, weights, 1 << fmt.bits)
    scale = slices.new_ones(len(slices), 1)
    return QParams(scale, torch.zeros_like(scale, dtype=torch.int32), fmt, levels)


def learn_levels(slices: Tensor, weights: Tensor, count: int, steps: int = _STEPS) -> Tensor:
    """Ascending levels ``[S, count]``; no worse than the uniform grid over the slice's range.

    Args:
        slices: ``[S, n]``.
        weights: weight of every element, not negative, ``[S, n]``.
        count: number of levels.
        steps: of Adam; 0 gives the uniform grid.
    """
    used = torch.where(weights > 0, slices, torch.zeros_like(slices)).detach()
    if slices.shape[1] == 0:
        return slices.new_zeros(len(slices), count)
    low, high = used.amin(1, keepdim=True), used.amax(1, keepdim=True)
    width = high - low
    # Slices are learned at unit width, so that one rate serves all.
    unit = torch.where(width > 0, width, torch.ones_like(width))
    points = (used - low) / unit
    gaps = points.new_full((len(points), count - 1), 1 / (count - 1)).log()
    start = points.new_zeros(len(points), 1)
    best = _ordered(start, gaps)
    least = _errors(points, weights, best)
    leaves = [start.requires_grad_(), gaps.requires_grad_()]
    optimizer = torch.optim.Adam(leaves, lr=_RATE)
    for _ in range(steps):
        with torch.enable_grad():
            levels = _ordered(start, gaps)
            errors = _errors(points, weights, levels)
            optimizer.zero_grad()
            errors.sum().backward()  # type: ignore[no-untyped-call]
        best, least = _keep(levels.detach(), errors.detach(), best, least)
        optimizer.step()
    return (best * unit + low) * (width > 0) + low * (width <= 0)


def _ordered(start: Tensor, gaps: Tensor) -> Tensor:
    return torch.cat([start, start + gaps.exp().cumsum(1)], dim=1)


def _errors(points: Tensor, weights: Tensor, levels: Tensor) -> Tensor:
    near = pick_level(levels, nearest_level(points, levels.detach()))
    return ((near - points).square() * weights).sum(1)


def _keep(levels: Tensor, errors: Tensor, best: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    better = errors < least
    return torch.where(better[:, None], levels, best), torch.where(better, errors, least)
