"""Tables of levels: the numbers a non-uniform format can hold, and the nearest of them.

A tensor is stored as places in an ascending table and a scale per slice; rounding is to the
nearest level, of two equally near ones to the lower place. Sources: fp8 Micikevicius et al.,
arXiv 2209.05433; fp4, fp6 and block formats Rouhani et al., arXiv 2310.10537; nf4 Dettmers et
al., arXiv 2305.14314; powers of two Miyashita et al., arXiv 1603.01025; their sums Li et al.,
arXiv 1909.13144.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

import torch
from torch import Tensor

from quant.formats import Format

# (exponent bits, mantissa bits, largest number) of each floating table.
_FLOATS = {
    "fp8e4m3": (4, 3, 448.0),
    "fp8e5m2": (5, 2, 57344.0),
    "fp4": (2, 1, 6.0),
    "mxfp8": (4, 3, 448.0),
    "mxfp6": (3, 2, 28.0),
    "mxfp4": (2, 1, 6.0),
}
# Quantiles of the normal distribution scaled to [-1, 1], from the paper's appendix.
_NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
_SMALLEST_MX = -127  # the smallest exponent of an 8-bit power-of-two scale


@lru_cache(maxsize=64)
def level_table(fmt: Format) -> Tensor:
    """Ascending levels of a format before scaling, ``[K]``, float64; do not write to it.

    Raises:
        KeyError: the format's levels are fitted to data, or it has none.
    """
    if fmt.kind in _FLOATS:
        return _signed(_float_magnitudes(*_FLOATS[fmt.kind]))
    if fmt.kind in ("pot", "apot"):
        count = 1 if fmt.kind == "pot" else 2
        return _signed(_power_sums(fmt.bits - 1, count))
    fixed = {"nf4": _NF4, "binary": (-1.0, 1.0), "ternary": (-1.0, 0.0, 1.0)}
    return torch.tensor(fixed[fmt.kind], dtype=torch.float64)


def nearest_level(x: Tensor, table: Tensor) -> Tensor:
    """Places of the levels nearest to ``x``, int64, in the shape of ``x``.

    Args:
        x: any shape for one table, ``[S, n]`` for a table per slice.
        table: ascending levels, ``[K]`` or ``[S, K]``.
    """
    middles = (table[..., 1:] + table[..., :-1]) / 2
    return torch.searchsorted(middles.to(x.dtype).contiguous(), x.contiguous())


def pick_level(table: Tensor, places: Tensor) -> Tensor:
    """Levels at ``places``; ``[S, n]`` for a table ``[S, K]``, any shape for ``[K]``."""
    return table[places] if table.dim() == 1 else table.gather(1, places)


def mx_scale(peak: Tensor, fmt: Format) -> Tensor:
    """``2^(floor(log2 peak) - floor(log2 largest level))``, the shared scale of a block.

    Values above the largest level saturate, as the specification allows.
    """
    top = torch.frexp(level_table(fmt).max()).exponent - 1
    exponent = torch.frexp(peak).exponent - 1 - top
    # Subnormal results count as a zero range in the caller, which is what they are.
    scale = torch.ldexp(torch.ones_like(peak), exponent.clamp(min=_SMALLEST_MX))
    return torch.where(peak > 0, scale, torch.zeros_like(peak))


def _float_magnitudes(exponent_bits: int, mantissa_bits: int, largest: float) -> set[float]:
    """Non-negative numbers of a small float with subnormals, up to ``largest``."""
    bias, steps = 2 ** (exponent_bits - 1) - 1, 2**mantissa_bits
    subnormal = {2.0 ** (1 - bias) * m / steps for m in range(steps)}
    exponents = range(1 - bias, 2**exponent_bits - bias)
    normal = {2.0**e * (1 + m / steps) for e in exponents for m in range(steps)}
    return {value for value in subnormal | normal if value <= largest}


def _power_sums(magnitude_bits: int, term_bits: int) -> set[float]:
    """Magnitudes with powers of two: one term, or a sum of terms of two bits each.

    Term ``i`` of ``n`` is 0 or ``2^-(i + j n)``, equation 5 of the additive paper; an odd
    number of bits leaves one bit for the last term.
    """
    if term_bits == 1:
        return {0.0, *(2.0**-j for j in range(2**magnitude_bits - 1))}
    widths = [2] * (magnitude_bits // 2) + [1] * (magnitude_bits % 2)
    terms = [
        [0.0, *(2.0 ** -(i + j * len(widths)) for j in range(2**width - 1))]
        for i, width in enumerate(widths)
    ]
    return {sum(combination) for combination in itertools.product(*terms)}


def _signed(magnitudes: set[float]) -> Tensor:
    # 0.0 and -0.0 are one member of a set.
    values = sorted(magnitudes | {-value for value in magnitudes})
    return torch.tensor(values, dtype=torch.float64)
