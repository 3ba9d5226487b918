"""Piecewise linear levels: a fine uniform grid in the centre, a coarse one in both tails.

PWLQ (Fang et al., arXiv 2002.00104): a breakpoint splits the range into regions with equally
many levels. Here the centre ``[-p, p]`` takes ``2^(b-1) - 1`` levels (zero among them) and each
tail ``2^(b-2)``, so that some ``p`` gives the restricted uniform grid back: the best of a search
over ``p`` is never worse than that grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quant.affine import QParams
from quant.formats import Format
from quant.levels import nearest_level, pick_level

_SHARES = 20


def piecewise(slices: Tensor, weights: Tensor, fmt: Format) -> QParams:
    """Peak and breakpoint of every slice with least error; see :func:`quant.codebook.fit`."""
    used = slices * (weights > 0)
    peak = slices.new_zeros(len(slices), 1)
    peak = used.abs().amax(1, keepdim=True) if slices.shape[1] else peak
    best = torch.cat([peak, uniform_break(fmt.bits) * peak], dim=1)
    error = _error(slices, weights, levels_of(best, fmt.bits))
    for clip in [1 - 0.5 * i / _SHARES for i in range(_SHARES)]:
        for share in [uniform_break(fmt.bits), *((i + 1) / _SHARES for i in range(_SHARES - 1))]:
            ends = torch.cat([clip * peak, share * clip * peak], dim=1)
            trial = _error(slices, weights, levels_of(ends, fmt.bits))
            better = trial < error
            best = torch.where(better[:, None], ends, best)
            error = torch.where(better, trial, error)
    scale = torch.ones_like(peak)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return QParams(scale, zero, fmt, levels_of(best, fmt.bits), best)


def levels_of(ends: Tensor, bits: int) -> Tensor:
    """Ascending levels ``[S, 2^bits - 1]`` of peaks and breakpoints ``[S, 2]``."""
    return piecewise_levels(ends[:, :1], ends[:, 1:], bits).contiguous()


def piecewise_levels(peak: Tensor, middle: Tensor, bits: int) -> Tensor:
    """``2^bits - 1`` ascending levels for peaks and breakpoints ``[S, 1]``."""
    half, tail = 2 ** (bits - 2) - 1, 2 ** (bits - 2)
    centre = torch.arange(half + 1, dtype=peak.dtype) / max(half, 1) * middle
    start = middle if half else torch.zeros_like(middle)
    steps = torch.arange(1, tail + 1, dtype=peak.dtype) / tail
    positive = torch.cat([centre, start + steps * (peak - start)], dim=1)
    return torch.cat([-positive[:, 1:].flip(1), positive], dim=1)


def uniform_break(bits: int) -> float:
    """Breakpoint, as a share of the peak, with which all levels are evenly spaced."""
    return float((2 ** (bits - 2) - 1) / (2 ** (bits - 1) - 1))


def _error(slices: Tensor, weights: Tensor, levels: Tensor) -> Tensor:
    near = pick_level(levels, nearest_level(slices, levels))
    return ((near - slices).square() * weights).sum(1)
