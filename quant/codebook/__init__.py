"""Formats whose scale or levels are fitted to the tensor, each in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from quant.affine import QParams
from quant.codebook.binary_code import alternating, greedy
from quant.codebook.binary_code import levels_of as bases_to_levels
from quant.codebook.kmeans import kmeans
from quant.codebook.learned import learned
from quant.codebook.piecewise import levels_of as ends_to_levels
from quant.codebook.piecewise import piecewise
from quant.codebook.ternary import binary, ternary
from quant.formats import Format

_FITS: Mapping[str, Callable[[Tensor, Tensor, Format], QParams]] = {
    "binary": binary,
    "ternary": ternary,
    "km": kmeans,
    "lv": learned,
    "bc": alternating,
    "bcg": greedy,
    "pwl": piecewise,
}


def fit(slices: Tensor, weights: Tensor, fmt: Format) -> QParams:
    """Fits a scalar format with ``fmt.is_fitted`` to every slice on its own.

    Args:
        slices: finite weights, ``[S, n]``.
        weights: how much the error of an element counts, 0 for padding, ``[S, n]``; 1 everywhere
            else is the plain fit, the diagonal of the Hessian that of Choi et al., arXiv
            1612.01543 (for ``binary`` Hou et al., LAB, arXiv 1611.01600).
        fmt: the format.
    """
    return _FITS[fmt.kind](slices, weights, fmt)


def levels_from(numbers: Tensor, fmt: Format) -> Tensor:
    """Ascending levels ``[S, K]`` from what a file stores of each slice, ``[S, N]``."""
    if fmt.kind in ("bc", "bcg"):
        return bases_to_levels(numbers)
    return ends_to_levels(numbers, fmt.bits) if fmt.kind == "pwl" else numbers
