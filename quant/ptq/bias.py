"""Bias correction: the mean output of a quantized layer is moved back to that of the float one.

``b -= E[(W^ - W) u]`` (Nagel et al., arXiv 1906.04721; Finkelstein et al., arXiv 1906.03193),
with the mean of the float network's inputs.
"""

from __future__ import annotations

from torch import Tensor, nn

from quant.slices import SliceLayout


def bias_shift(module: nn.Module, original: Tensor, rounded: Tensor, mean: Tensor) -> Tensor:
    """What to add to the output, ``[out]`` or ``[out, 1, ...]`` to match a convolution.

    Args:
        module: the layer.
        original: float weight.
        rounded: quantized weight, same shape.
        mean: ``E[u]``, ``[groups, inputs]``.
    """
    change = SliceLayout.of(module).slice((rounded - original).detach().double())
    grouped = change.reshape(len(mean), -1, mean.shape[1])
    shift = -(grouped @ mean[:, :, None]).reshape(-1).to(original.dtype)
    sides = original.dim() - 2
    return shift.reshape(-1, *[1] * sides)
