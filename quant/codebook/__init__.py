"""Formats whose scale or levels are fitted to the tensor: binary, ternary, k-means."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from quant.affine import QParams
from quant.codebook.kmeans import kmeans
from quant.codebook.ternary import binary, ternary
from quant.formats import Format

_FITS: Mapping[str, Callable[[Tensor, Tensor, Format], QParams]] = {
    "binary": binary,
    "ternary": ternary,
    "km": kmeans,
}


def fit(slices: Tensor, mask: Tensor, fmt: Format) -> QParams:
    """Fits a format with ``fmt.is_fitted`` to every slice on its own.

    Args:
        slices: finite weights, ``[S, n]``.
        mask: 1 for real elements, 0 for padding, ``[S, n]``.
        fmt: the format.
    """
    return _FITS[fmt.kind](slices, mask, fmt)
