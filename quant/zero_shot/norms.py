"""How far activations are from what a model's batch norms remember of its training data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from quant.folding import NORMS, share_copy
from quant.prepare import no_norms


class NormGap:
    """Sums the mismatch of all norms over one forward pass."""

    def __init__(self, model: nn.Module) -> None:
        self._terms: list[Tensor] = []
        self._norms = [
            module
            for module in model.modules()
            if isinstance(module, NORMS) and module.running_mean is not None
        ]
        if not self._norms:
            raise no_norms("made-up calibration data")
        self._hooks = [norm.register_forward_pre_hook(self._record) for norm in self._norms]

    def value(self) -> Tensor:
        """Sum since the last call, ``sum_l (|mu - mu_l|^2 + |sigma - sigma_l|^2) / C_l``, 0-dim.

        Divided by the channels, and by the norm's own mean variance, so that no norm dominates.
        """
        total = torch.stack(self._terms).sum()
        self._terms.clear()
        return total

    def remove(self) -> None:
        """Takes the hooks out."""
        for hook in self._hooks:
            hook.remove()

    def _record(self, norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, NORMS)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        rows = args[0].transpose(0, 1).flatten(1)
        mean, std = rows.mean(1), (rows.var(1, unbiased=False) + norm.eps).sqrt()
        target = (norm.running_var + norm.eps).sqrt()
        error = (mean - norm.running_mean).square() + (std - target).square()
        self._terms.append(error.mean() / target.square().mean())


@contextmanager
def watched(model: nn.Module) -> Iterator[tuple[nn.Module, NormGap]]:
    """A frozen copy of ``model`` and the gap of its norms.

    Raises:
        DataError: there are no batch norms with running statistics.
    """
    copy = share_copy(model).eval().requires_grad_(False)
    gap = NormGap(copy)
    try:
        yield copy, gap
    finally:
        gap.remove()
