"""Binary and ternary weights with a least-squares scale per slice.

Binary: ``alpha = mean|w|``, the minimiser of ``||w - alpha sign(w)||`` (Rastegari et al.,
XNOR-Net, arXiv 1603.05279). Ternary (Li et al., arXiv 1605.04711): keeping the ``k`` largest
magnitudes leaves the error ``sum w^2 - (sum of the kept)^2 / k``, so sorting finds the best
``{-alpha, 0, alpha}`` exactly, where the paper approximates it by a threshold of 0.7 mean|w|.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quant.affine import QParams
from quant.formats import Format


def binary(slices: Tensor, mask: Tensor, fmt: Format) -> QParams:
    """Scale ``mean|w|`` of each slice; see :func:`quant.codebook.fit`."""
    total = (slices.abs() * mask).sum(1, keepdim=True)
    # Slices without any weight have a total of 0 and keep it.
    return _qparams(total / mask.sum(1, keepdim=True).clamp(min=1e-30), fmt)


def ternary(slices: Tensor, mask: Tensor, fmt: Format) -> QParams:
    """Best scale of each slice; see :func:`quant.codebook.fit`.

    Weights other than 0 count as 1: sorting finds the best support for equal weights alone.
    """
    mask = (mask > 0).to(slices)
    if slices.shape[1] == 0:
        return _qparams(slices.new_zeros(len(slices), 1), fmt)
    kept = (slices.abs() * mask).sort(dim=1, descending=True).values.cumsum(1)
    count = torch.arange(1, slices.shape[1] + 1, device=slices.device)
    best = (kept.square() / count).argmax(1, keepdim=True)
    return _qparams(kept.gather(1, best) / (best + 1), fmt)


def _qparams(alpha: Tensor, fmt: Format) -> QParams:
    # A zero scale has no inverse; below the smallest normal number it counts as zero, and the
    # levels of such a slice are all zero, so that zero stays zero in a table without one.
    empty = alpha < torch.finfo(alpha.dtype).tiny
    table = torch.tensor([-1.0, 1.0] if fmt.kind == "binary" else [-1.0, 0.0, 1.0]).to(alpha)
    levels = torch.where(empty, torch.zeros_like(table), table)
    scale = torch.where(empty, torch.ones_like(alpha), alpha)
    return QParams(scale, torch.zeros_like(scale, dtype=torch.int32), fmt, levels)
