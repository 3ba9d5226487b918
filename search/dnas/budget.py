"""How an expected cost is kept within a budget: penalties on ``c = E[cost] / budget - 1``."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from quant.errors import unknown


class Penalty(ABC):
    """Combines a loss with a relative excess over the budget."""

    @abstractmethod
    def __call__(self, loss: Tensor, excess: Tensor) -> Tensor:
        """What is minimised; ``excess`` is 0 on the budget and -1 at no cost."""

    def update(self, excess: float) -> None:  # noqa: B027 - optional
        """Called after each step."""


class AugmentedLagrangian(Penalty):
    """``L + lambda c + rho/2 c^2`` while the constraint binds; lambda follows the excess.

    Hestenes and Powell's method for inequalities: ``lambda <- max(0, lambda + rho c)``.
    """

    def __init__(self, rho: float = 4.0, rate: float = 0.2) -> None:
        self.price, self.rho, self.rate = 0.0, rho, rate

    def __call__(self, loss: Tensor, excess: Tensor) -> Tensor:
        """See the class."""
        shifted = (self.price + self.rho * excess).clamp(min=0)
        return loss + (shifted.square() - self.price**2) / (2 * self.rho)

    def update(self, excess: float) -> None:
        """A share ``rate`` of the full step: gradients of few samples are noisy."""
        self.price = max(0.0, self.price + self.rate * self.rho * excess)


class LogProduct(Penalty):
    """``L (log(1 + cost / budget) / log 2)^gamma``, as DNAS multiplies loss and cost."""

    def __init__(self, gamma: float = 4.0) -> None:
        self.gamma = gamma

    def __call__(self, loss: Tensor, excess: Tensor) -> Tensor:
        """See the class."""
        return loss * (torch.log(2 + excess) / math.log(2)) ** self.gamma


class Barrier(Penalty):
    """``L - mu log(-c)`` within the budget, less a margin; a parabola of the same slope beyond."""

    def __init__(self, mu: float = 0.05, margin: float = 0.02) -> None:
        self.mu, self.margin = mu, margin

    def __call__(self, loss: Tensor, excess: Tensor) -> Tensor:
        """See the class."""
        inside = -self.mu * torch.log((-excess).clamp(min=self.margin))
        over = ((excess + self.margin) / self.margin).clamp(min=0)
        return loss + inside + self.mu * (over + over.square() / 2)


PENALTIES: Mapping[str, type[Penalty]] = {
    "lagrangian": AugmentedLagrangian,
    "log_product": LogProduct,
    "barrier": Barrier,
}


def penalty(name: str) -> Penalty:
    """A fresh one of :data:`PENALTIES`.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in PENALTIES:
        raise unknown("penalty", name, PENALTIES, where="strategy.dnas.penalty")
    return PENALTIES[name]()
