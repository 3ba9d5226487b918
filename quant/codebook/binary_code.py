"""Binary codes: every weight is a sum of ``+alpha_i`` or ``-alpha_i``, with ``k`` bases a slice.

``w ~ sum_i alpha_i b_i``. Greedy (Guo et al., Network Sketching, arXiv 1706.02021): each basis
takes the signs of what is left and its mean magnitude. Alternating (Zhang et al., LQ-Nets, arXiv
1807.10029, algorithm 1): from there, the nearest code of every weight and the least-squares
``alpha`` in turn. Neither step increases the error.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from quant.affine import QParams
from quant.formats import Format
from quant.levels import nearest_level

_ROUNDS = 30


def greedy(slices: Tensor, weights: Tensor, fmt: Format) -> QParams:
    """``bits`` bases per slice, one after another; see :func:`quant.codebook.fit`."""
    return _qparams(greedy_bases(slices, weights, fmt.bits), fmt)


def alternating(slices: Tensor, weights: Tensor, fmt: Format) -> QParams:
    """``bits`` bases per slice, refined in turns; see :func:`quant.codebook.fit`."""
    return _qparams(alternating_bases(slices, weights, fmt.bits), fmt)


def greedy_bases(slices: Tensor, weights: Tensor, count: int) -> Tensor:
    """``alpha [S, count]``, each the mean magnitude of the residual.

    Args:
        slices: ``[S, n]``.
        weights: weight of every element, not negative, ``[S, n]``.
        count: number of bases.
    """
    total = weights.sum(1, keepdim=True)
    residual, found = slices, []
    for _ in range(count):
        mass = (residual.abs() * weights).sum(1, keepdim=True)
        alpha = torch.where(total > 0, mass / total.clamp(min=1e-30), torch.zeros_like(mass))
        residual = residual - alpha * _signs(residual)
        found.append(alpha)
    return torch.cat(found, dim=1)


def alternating_bases(
    slices: Tensor, weights: Tensor, count: int, rounds: int = _ROUNDS
) -> Tensor:
    """``alpha [S, count]`` after alternating from the greedy ones.

    Args:
        slices: ``[S, n]``.
        weights: weight of every element, not negative, ``[S, n]``.
        count: number of bases.
        rounds: most turns; ends earlier when nothing moves.
    """
    bases = greedy_bases(slices, weights, count)
    if slices.shape[1] == 0:
        return bases
    for _ in range(rounds):
        levels, codes = _levels(bases)
        signs = codes[_rows(slices), nearest_level(slices, levels)]  # [S, n, k]
        moved = _least_squares(signs, slices, weights)
        if torch.equal(moved, bases):
            break
        bases = moved
    return bases


def _least_squares(signs: Tensor, slices: Tensor, weights: Tensor) -> Tensor:
    """``argmin_alpha sum w (x - signs alpha)^2`` of every slice, smallest norm where many."""
    scaled = (signs * weights[..., None]).double()
    normal = scaled.transpose(1, 2) @ signs.double()
    target = scaled.transpose(1, 2) @ slices.double()[..., None]
    solved: Tensor = torch.linalg.pinv(normal, hermitian=True) @ target
    return solved[..., 0].to(slices)


def _levels(bases: Tensor) -> tuple[Tensor, Tensor]:
    """Ascending levels ``[S, 2^k]`` and the signs ``[S, 2^k, k]`` that make each of them."""
    patterns = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=bases.shape[1])))
    levels, order = (bases @ patterns.to(bases).T).sort(dim=1)
    return levels, patterns.to(bases)[order]


def _qparams(bases: Tensor, fmt: Format) -> QParams:
    scale = bases.new_ones(len(bases), 1)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return QParams(scale, zero, fmt, levels_of(bases), bases)


def levels_of(bases: Tensor) -> Tensor:
    """Ascending levels ``[S, 2^k]`` of bases ``[S, k]``."""
    return _levels(bases)[0].contiguous()


def _signs(x: Tensor) -> Tensor:
    return torch.where(x < 0, -torch.ones_like(x), torch.ones_like(x))


def _rows(slices: Tensor) -> Tensor:
    return torch.arange(len(slices), device=slices.device)[:, None]
