"""Rounding by chance, with a generator that is passed in.

``Int(x) = floor(x)`` with probability ``ceil(x) - x``, else ``ceil(x)``, has mean ``x`` (Gupta et
al., arXiv 1502.02551; equation 8 of Gholami et al., arXiv 2103.13630). ``Binary(x) = +1`` with
probability ``sigma(x)``, else -1 (equation 9); BinaryConnect (arXiv 1511.00363) takes the hard
sigmoid ``clip((x + 1) / 2, 0, 1)``, with which the mean is ``clip(x, -1, 1)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quant.affine import QParams, dequantize
from quant.levels import pick_level


def stochastic_round(x: Tensor, generator: torch.Generator) -> Tensor:
    """Whole numbers next to ``x``, same shape; integers stay, NaN and infinity too."""
    below = torch.floor(x)
    chance = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    # A comparison with NaN is false, so that NaN and infinities keep their own floor.
    return below + (chance < x - below).to(x.dtype)


def stochastic_binary(x: Tensor, generator: torch.Generator, *, hard: bool = False) -> Tensor:
    """-1 or +1 for every element of ``x``.

    Args:
        x: any shape.
        generator: source of the randomness.
        hard: take the hard sigmoid instead of the logistic function.
    """
    share = ((x + 1) / 2).clamp(0, 1) if hard else torch.sigmoid(x)
    chance = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return torch.where(chance < share, torch.ones_like(x), -torch.ones_like(x))


def stochastic_quantize(x: Tensor, qparams: QParams, generator: torch.Generator) -> Tensor:
    """``x`` on the format's grid, each value on one of the two levels around it, same shape.

    The mean over generators is ``x`` within the range; beyond it the end of the range. Float
    formats are not rounded by chance but as usual.

    Args:
        x: any shape for one scale, ``[S, n]`` for a scale or table per slice.
        qparams: scale, zero point and format.
        generator: source of the randomness.
    """
    fmt = qparams.fmt
    if fmt.is_float:
        return dequantize(x, qparams)
    steps = x * qparams.scale.reciprocal()
    if not fmt.has_levels:
        codes = stochastic_round(steps, generator) + qparams.zero_point
        return (codes.clamp(fmt.qmin, fmt.qmax) - qparams.zero_point) * qparams.scale
    table = qparams.table.to(x.dtype).contiguous()
    upper = torch.searchsorted(table, steps.contiguous()).clamp(1, table.shape[-1] - 1)
    low, high = pick_level(table, upper - 1), pick_level(table, upper)
    width = (high - low).clamp(min=torch.finfo(x.dtype).tiny)
    share = ((steps - low) / width).clamp(0, 1)
    chance = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return torch.where(chance < share, high, low) * qparams.scale
