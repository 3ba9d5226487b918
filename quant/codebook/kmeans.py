"""K-means codebooks of scalars (Han et al., Deep Compression, arXiv 1510.00149).

Lloyd's algorithm on every slice at once, started at evenly spaced quantiles. Weighted points
make it the Hessian-weighted k-means of Choi et al., arXiv 1612.01543.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quant.affine import QParams
from quant.calibration.percentile import quantile
from quant.formats import Format
from quant.levels import nearest_level

_ROUNDS = 50


def kmeans(slices: Tensor, mask: Tensor, fmt: Format) -> QParams:
    """``2^bits`` levels per slice; see :func:`quant.codebook.fit`. The scale is 1."""
    levels = lloyd(slices, mask, 1 << fmt.bits)
    scale = slices.new_ones(len(slices), 1)
    return QParams(scale, torch.zeros_like(scale, dtype=torch.int32), fmt, levels)


def lloyd(points: Tensor, weights: Tensor, count: int, rounds: int = _ROUNDS) -> Tensor:
    """Ascending levels ``[S, count]`` that locally minimise the weighted squared error.

    The error never grows from round to round. A level without points stays where it is.

    Args:
        points: ``[S, n]``.
        weights: weight of every point, not negative, ``[S, n]``.
        count: number of levels.
        rounds: most rounds; ends earlier when no level moves.
    """
    shares = [(i + 0.5) / count for i in range(count)]
    levels = torch.stack([quantile(points, weights, share) for share in shares], dim=1)
    for _ in range(rounds):
        places = nearest_level(points, levels)
        mass = torch.zeros_like(levels).scatter_add_(1, places, weights)
        total = torch.zeros_like(levels).scatter_add_(1, places, weights * points)
        moved = torch.where(mass > 0, total / mass.clamp(min=1e-30), levels).sort(dim=1).values
        if torch.equal(moved, levels):
            break
        levels = moved
    return levels
