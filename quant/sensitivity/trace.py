"""Traces of Hessian blocks by Hutchinson's estimator.

``tr(H) = E[v' H v]`` for vectors ``v`` of random signs (Hutchinson, 1989), with ``H v`` by
differentiating the gradient once more (Pearlmutter, 1994). Every batch draws its own vectors: at
equal cost this averages over more of them than one vector carried through all batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from quant.sensitivity.blocks import Slope, no_derivative


class TraceEstimate:
    """Running estimate of the trace of one block of the Hessian of a mean loss.

    Args:
        shares: share of the samples in each batch; they sum to 1.
    """

    def __init__(self, shares: Sequence[float]) -> None:
        self._shares = torch.tensor(shares, dtype=torch.float64)
        self._forms: list[list[float]] = [[] for _ in shares]

    def add(self, batch: int, form: float) -> None:
        """Adds one quadratic form ``v' H v`` of one batch."""
        self._forms[batch].append(form)

    @property
    def count(self) -> int:
        """Number of vectors drawn for each batch."""
        return len(self._forms[0])

    @property
    def mean(self) -> float:
        """Estimated trace; every batch must have the same number of forms, at least one."""
        forms = torch.tensor(self._forms, dtype=torch.float64)
        return float(self._shares @ forms.mean(dim=1))

    @property
    def standard_error(self) -> float:
        """Standard error of :attr:`mean` over the random vectors; infinite below two."""
        forms = torch.tensor(self._forms, dtype=torch.float64)
        if forms.shape[1] < 2:
            return math.inf
        return float((self._shares.square() @ forms.var(dim=1) / forms.shape[1]).sqrt())

    @property
    def relative_error(self) -> float:
        """Standard error over the magnitude of the mean; 0 for a block that is exactly 0."""
        error = self.standard_error
        return error / abs(self.mean) if self.mean else (math.inf if error else 0.0)


def quadratic_forms(slopes: Sequence[Slope], generator: torch.Generator) -> list[float]:
    """``v' H v`` of each block, from one vector drawn jointly over all of them.

    The forms of single blocks have the cross terms between blocks as noise of mean zero.

    Raises:
        UsageError: an op on the way has no second derivative; it is named.
    """
    leaves = [leaf for slope in slopes for leaf in slope.leaves]
    grads = [grad for slope in slopes for grad in slope.grads]
    signs = [_signs(leaf, generator) for leaf in leaves]
    curved = [(grad, sign) for grad, sign in zip(grads, signs, strict=True) if grad.requires_grad]
    if not curved:
        return [0.0] * len(slopes)  # the loss is linear in every block
    try:
        products = torch.autograd.grad(
            [grad for grad, _ in curved],
            leaves,
            [sign for _, sign in curved],
            retain_graph=True,
            allow_unused=True,
        )
    except RuntimeError as cause:
        raise no_derivative(str(cause)) from cause
    pairs = zip(signs, products, strict=True)
    forms = iter([0.0 if p is None else float((s * p).double().sum()) for s, p in pairs])
    return [sum(next(forms) for _ in slope.leaves) for slope in slopes]


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    """Independent +1 and -1 in the shape of ``like``."""
    bits = torch.randint(0, 2, like.shape, generator=generator, dtype=torch.int8)
    return (2 * bits - 1).to(like)
