"""From free numbers to shares of choices: ``theta -> p``, one row per group, rows sum to 1.

Choices are ordered by cost within each group (``order``); padding has share 0.

- ``softmax``: EdMIPS (Cai and Vasconcelos, arXiv 2004.05795) without noise.
- ``gumbel``: DNAS (Wu et al., arXiv 1812.00090), noise from the Gumbel distribution, annealed.
- ``fractional``: FracBits (Yang and Jin, arXiv 2007.02017): one position per group on the ladder
  of choices; the two neighbours share it linearly.
- ``gated``: Bayesian Bits (van Baalen et al., arXiv 2005.07093): nested gates, the next finer
  choice only behind an open one; hard-concrete noise (Louizos et al., arXiv 1712.01312).
- ``learned_range``: DQ (Uhlich et al., arXiv 1905.11452): step and range of a group are learned
  and tell the width, whose neighbours share it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quant.errors import unknown

STRETCH = (-0.1, 1.1)
"""Hard-concrete gates reach beyond 0 and 1, so that they can close and open for good."""


@dataclass(frozen=True, eq=False)
class Ladder:
    """The choices of every group.

    Attributes:
        order: choices by rising cost, padded by repeating the last, ``int64[G, B]``.
        sizes: choices of each group, ``int64[G]``.
        bits: mean width of each choice's weights, in the order of codes, ``float[G, B]``.
    """

    order: Tensor
    sizes: Tensor
    bits: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Groups and most choices."""
        return self.order.shape[0], self.order.shape[1]

    @property
    def offered(self) -> Tensor:
        """Which places of a ladder there are, ``bool[G, B]``."""
        return torch.arange(self.shape[1])[None, :] < self.sizes[:, None]

    def by_code(self, shares: Tensor) -> Tensor:
        """Shares along the ladder ``[G, B]`` in the order of codes."""
        kept = torch.where(self.offered, shares, torch.zeros_like(shares))
        return torch.zeros_like(shares).scatter_add(1, self.order, kept)


class Relaxation(nn.Module, ABC):
    """Free numbers of all groups.

    Args:
        ladder: the choices.
        generator: of noise.
    """

    def __init__(self, ladder: Ladder, generator: torch.Generator) -> None:
        super().__init__()
        self.ladder, self.generator = ladder, generator

    @abstractmethod
    def start(self, harm: Tensor) -> None:
        """Begins at shares that favour little harm, ``float[G, B]`` by code, 0..1."""

    @abstractmethod
    def shares(self, temperature: float) -> Tensor:
        """Shares by code, with noise where the relaxation has some, ``float[G, B]``."""

    def settled(self, temperature: float) -> Tensor:
        """Shares without noise."""
        return self.shares(temperature)


class Softmax(Relaxation):
    """A logit per choice."""

    def __init__(self, ladder: Ladder, generator: torch.Generator) -> None:
        super().__init__(ladder, generator)
        self.logits = nn.Parameter(torch.zeros(ladder.shape))

    def start(self, harm: Tensor) -> None:
        """Logits fall with harm, by 2 over its whole range."""
        with torch.no_grad():
            self.logits.copy_(-2.0 * harm)

    def shares(self, temperature: float) -> Tensor:
        """``softmax(theta / T)``."""
        return self._masked(self.logits / temperature)

    def _masked(self, logits: Tensor) -> Tensor:
        padded = ~(self.ladder.by_code(self.ladder.offered.float()) > 0)
        return logits.masked_fill(padded, -torch.inf).softmax(1)


class Gumbel(Softmax):
    """The same with Gumbel noise: a draw of choices, smoothed by the temperature."""

    def shares(self, temperature: float) -> Tensor:
        """``softmax((theta + g) / T)``."""
        uniform = torch.rand(self.logits.shape, generator=self.generator).clamp(1e-9, 1 - 1e-9)
        return self._masked((self.logits - (-uniform.log()).log()) / temperature)

    def settled(self, temperature: float) -> Tensor:
        """Without noise, at the same temperature."""
        return self._masked(self.logits / temperature)


class Fractional(Relaxation):
    """A position on each ladder."""

    def __init__(self, ladder: Ladder, generator: torch.Generator) -> None:
        super().__init__(ladder, generator)
        self.place = nn.Parameter(torch.zeros(ladder.shape[0]))

    def start(self, harm: Tensor) -> None:
        """The upper end where harm is large, the middle elsewhere."""
        most = harm.max(dim=1).values
        with torch.no_grad():
            self.place.copy_((0.5 + 0.5 * most) * (self.ladder.sizes - 1))

    def shares(self, temperature: float) -> Tensor:
        """``max(0, 1 - |place - b|)``; sharpened towards the nearer one as it cools."""
        del temperature
        return self.ladder.by_code(hats(self.place, self.ladder))


class Gated(Relaxation):
    """Gates between neighbours of each ladder."""

    def __init__(self, ladder: Ladder, generator: torch.Generator) -> None:
        super().__init__(ladder, generator)
        groups, width = ladder.shape
        self.gates = nn.Parameter(torch.full((groups, max(width - 1, 1)), 1.0))

    def start(self, harm: Tensor) -> None:
        """Wider open where the next coarser choice harms more."""
        along = harm.gather(1, self.ladder.order)
        with torch.no_grad():
            self.gates[:, : along.shape[1] - 1] = 1.0 + 2.0 * along[:, :-1]

    def shares(self, temperature: float) -> Tensor:
        """Hard-concrete gates, sampled."""
        uniform = torch.rand(self.gates.shape, generator=self.generator).clamp(1e-6, 1 - 1e-6)
        return self._nested(
            torch.sigmoid((uniform.log() - (1 - uniform).log() + self.gates) / temperature)
        )

    def settled(self, temperature: float) -> Tensor:
        """Gates at their median."""
        return self._nested(torch.sigmoid(self.gates / temperature))

    def _nested(self, gates: Tensor) -> Tensor:
        low, high = STRETCH
        opened = (gates * (high - low) + low).clamp(0, 1)
        places = torch.arange(self.gates.shape[1])[None, :]
        opened = torch.where(
            places < (self.ladder.sizes - 1)[:, None], opened, torch.zeros_like(opened)
        )
        reached = torch.cat([torch.ones(len(opened), 1), opened.cumprod(1)], dim=1)
        passed = torch.cat([opened, torch.zeros(len(opened), 1)], dim=1)
        shares = reached * (1 - passed)
        return self.ladder.by_code(shares[:, : self.ladder.shape[1]])


class LearnedRange(Relaxation):
    """Step and range of each group, both in logarithms to base 2.

    ``b = log2(range / step + 1) + 1`` (DQ, equation 5 before rounding up) is the width; its two
    neighbours on the ladder of widths share it linearly.
    """

    def __init__(self, ladder: Ladder, generator: torch.Generator) -> None:
        super().__init__(ladder, generator)
        self.log_step = nn.Parameter(torch.zeros(ladder.shape[0]))
        self.log_range = nn.Parameter(torch.zeros(ladder.shape[0]))

    def start(self, harm: Tensor) -> None:
        """Range 1 and the step of the widest choice, less where harm is small."""
        most = harm.max(dim=1).values
        widths = self._widths()
        wanted = widths[:, 0] + (0.5 + 0.5 * most) * (widths[:, -1] - widths[:, 0])
        with torch.no_grad():
            self.log_range.zero_()
            self.log_step.copy_(-torch.log2(torch.pow(2.0, wanted - 1) - 1))

    @property
    def width(self) -> Tensor:
        """Bits of each group, not rounded, ``[G]``."""
        return torch.log2(torch.pow(2.0, self.log_range - self.log_step) + 1) + 1

    def shares(self, temperature: float) -> Tensor:
        """Linear between the two nearest widths on offer."""
        del temperature
        widths, bits = self._widths(), self.width[:, None]
        gaps = (widths[:, 1:] - widths[:, :-1]).clamp(min=1e-9)
        inside = ((bits - widths[:, :-1]) / gaps).clamp(0, 1)
        place = torch.where(widths[:, 1:] > widths[:, :-1], inside, 0 * inside).sum(1)
        return self.ladder.by_code(hats(place, self.ladder))

    def _widths(self) -> Tensor:
        """Bits along each ladder, never falling."""
        return self.ladder.bits.gather(1, self.ladder.order).cummax(1).values


def hats(place: Tensor, ladder: Ladder) -> Tensor:
    """Shares along the ladder of positions ``[G]``, clipped to its ends."""
    inside = torch.minimum(place.clamp(min=0), (ladder.sizes - 1).to(place))
    # A clipped position still gets a gradient back inside, or it would stay at its end.
    inside = place + (inside - place).detach()
    places = torch.arange(ladder.shape[1])[None, :]
    return (1 - (inside[:, None] - places).abs()).clamp(min=0)


RELAXATIONS: Mapping[str, type[Relaxation]] = {
    "softmax": Softmax,
    "gumbel": Gumbel,
    "fractional": Fractional,
    "gated": Gated,
    "learned_range": LearnedRange,
}


def relaxation(name: str, ladder: Ladder, generator: torch.Generator) -> Relaxation:
    """One of :data:`RELAXATIONS`.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in RELAXATIONS:
        raise unknown("relaxation", name, RELAXATIONS, where="strategy.dnas.relaxation")
    return RELAXATIONS[name](ladder, generator)


def entropy(shares: Tensor) -> Tensor:
    """Mean entropy of the rows, in units of the entropy of equal shares; 0 is one-hot."""
    most = math.log(max(shares.shape[1], 2))
    return -(shares * shares.clamp(min=1e-12).log()).sum(1).mean() / most
