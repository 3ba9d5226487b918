"""Calibration inputs made up from a trained model alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quant.method import Method
from quant.zero_shot.distill import distill
from quant.zero_shot.generator import generate

__all__ = ["distill", "generate", "synthetic_inputs"]


def synthetic_inputs(model: nn.Module, shape: tuple[int, ...], method: Method) -> Tensor:
    """What a method calibrates on where it reads no data, ``[method.samples, *shape]``.

    ``distilled`` and ``generated`` inputs match the model's batch norms; for ``batch_norm``, which
    puts normal samples into the layers themselves, normal noise is enough.

    Args:
        model: trained, in eval mode; not changed.
        shape: of one input, without the batch axis.
        method: its ``calibration`` is not ``"data"``.

    Raises:
        DataError: the model has no batch norms with running statistics.
    """
    generator = torch.Generator().manual_seed(method.seed)
    if method.calibration == "distilled":
        return distill(model, shape, method.samples, generator)
    if method.calibration == "generated":
        return generate(model, shape, method.samples, generator).inputs
    return torch.randn(method.samples, *shape, generator=generator)
