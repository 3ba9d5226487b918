"""Learning shares of choices under one budget after the other."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from quant.errors import DataError
from search.dnas.budget import Penalty, penalty
from search.dnas.mixture import Mixture
from search.dnas.relaxations import Relaxation, entropy
from search.strategies.base import Trainable

DIVERGED = 20.0
"""A smoothed loss this many times that of a budget's first step counts as lost."""
LEAST_LOSS = 0.2
"""Nats; losses below are noise."""
SMOOTH = 0.8
PATIENCE, DECIDED = 5, 0.005
"""Steps with so little entropy, within the budget, after which a budget is done."""
PASSES = 3.0
"""Forward equivalents of a step: one pass forward, a backward counts 2."""


@dataclass(frozen=True)
class TrainingOptions:
    """How shares are learned.

    Attributes:
        rate: of Adam, on the free numbers of the relaxation.
        batch: samples per step.
        hot: temperature at the first step of a budget.
        cold: at its last step.
        one_hot: weight of the entropy at the end of a budget, rising from 0 at its half.
        distil: share of the loss that is the KL to the float model; the rest is cross-entropy.
        penalty: a name in :data:`search.dnas.budget.PENALTIES`.
        weight_rate: of Adam on the weights, where the mixture's weights learn. Shares then learn
            on one half of the samples and weights on the other, in turns.
    """

    rate: float = 0.1
    batch: int = 50
    hot: float = 1.0
    cold: float = 0.2
    one_hot: float = 0.05
    distil: float = 1.0
    penalty: str = "lagrangian"
    weight_rate: float = 1e-3


@dataclass
class Record:
    """What was seen while learning, one entry per step; plain numbers."""

    loss: list[float] = field(default_factory=list)
    entropy: list[float] = field(default_factory=list)
    excess: list[float] = field(default_factory=list)


ExpectedCost = Callable[[Tensor], Tensor]
"""Cost of shares ``[G, B]`` in the metric's unit, differentiable."""


class Trainer:
    """Learns the shares of one relaxation, budget after budget.

    Args:
        model: what is learned through.
        mixture: its layers.
        relaxed: the free numbers.
        options: see :class:`TrainingOptions`.
        generator: of batches.
    """

    def __init__(
        self,
        model: Trainable,
        mixture: Mixture,
        relaxed: Relaxation,
        options: TrainingOptions,
        generator: torch.Generator,
    ) -> None:
        self.model, self.mixture, self.relaxed = model, mixture, relaxed
        self.options, self.generator = options, generator
        self.record = Record()
        self.forward = 0.0
        self._rate, self._halved = options.rate, False
        self._orders: dict[str, Tensor] = {}
        trained = mixture.parameters()
        self._weights = torch.optim.Adam(trained, options.weight_rate) if trained else None
        with torch.no_grad():
            model.quantized.float_()
            parts = torch.split(model.inputs, options.batch)
            self._teacher = torch.cat([model.quantized(part) for part in parts]).log_softmax(1)
        self.forward += len(model.inputs) / model.evaluation_samples

    def learn(self, cost: ExpectedCost, budget: float, steps: int) -> Tensor:
        """Trains under one budget from where the last one ended; settled shares ``[G, B]``.

        A loss that runs away or becomes NaN is met once by going back to the best numbers at
        half the rate.

        Raises:
            DataError: it ran away a second time.
        """
        keeper, best = penalty(self.options.penalty), math.inf
        kept = copy.deepcopy(self.relaxed.state_dict())
        optimiser = torch.optim.Adam(self.relaxed.parameters(), self._rate)
        smooth: float | None = None
        first = LEAST_LOSS
        for step in range(steps):
            loss = self.step(optimiser, keeper, cost, budget, step / max(steps - 1, 1))
            smooth = loss if smooth is None else SMOOTH * smooth + (1 - SMOOTH) * loss
            first = max(first, loss if step == 0 and math.isfinite(loss) else first)
            if not math.isfinite(loss) or smooth > DIVERGED * first:
                self._fall_back(kept, step)
                optimiser = torch.optim.Adam(self.relaxed.parameters(), self._rate)
                smooth = None
            elif smooth < best:
                best, kept = smooth, copy.deepcopy(self.relaxed.state_dict())
            if self._is_settled():
                break
        with torch.no_grad():
            return self.relaxed.settled(self.options.cold)

    def _is_settled(self) -> bool:
        """Early stop: within the budget and one choice each for several steps."""
        record, last = self.record, slice(-PATIENCE, None)
        if len(record.loss) < PATIENCE:
            return False
        decided = max(record.entropy[last]) < DECIDED
        return decided and max(record.excess[last]) <= 0

    def loss_of(self, shares: Tensor) -> float:
        """Loss of a mixture over the whole calibration split, no noise."""
        total = 0.0
        with torch.no_grad(), self.mixture.applied(shares) as module:
            for start in range(0, len(self.model.inputs), self.options.batch):
                rows = slice(start, start + self.options.batch)
                inputs = self.model.inputs[rows]
                loss = self._loss(module(inputs), rows)
                total += float(loss) * len(inputs)
        self.forward += len(self.model.inputs) / self.model.evaluation_samples
        return total / len(self.model.inputs)

    def step(
        self,
        optimiser: torch.optim.Optimizer,
        keeper: Penalty,
        cost: ExpectedCost,
        budget: float,
        done: float,
    ) -> float:
        """One step of the shares, ``done`` of the way through a budget; its loss."""
        options = self.options
        temperature = options.hot * (options.cold / options.hot) ** done
        if self._weights is not None:
            self._step_weights(self._weights, temperature)
        rows = self._rows("shares")
        shares = self.relaxed.shares(temperature)
        with self.mixture.applied(shares) as module:
            loss = self._loss(module(self.model.inputs[rows]), rows)
        excess = cost(shares) / budget - 1
        spread = entropy(shares)
        whole = keeper(loss, excess) + options.one_hot * max(0.0, 2 * done - 1) * spread
        optimiser.zero_grad()
        whole.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        keeper.update(float(excess.detach()))
        self.forward += PASSES * len(rows) / self.model.evaluation_samples
        found = float(loss.detach())
        self.record.loss.append(found)
        self.record.entropy.append(float(spread.detach()))
        self.record.excess.append(float(excess.detach()))
        return found

    def _step_weights(self, optimiser: torch.optim.Optimizer, temperature: float) -> None:
        """One step of the weights under the shares as they are."""
        rows = self._rows("weights")
        shares = self.relaxed.shares(temperature).detach()
        with self.mixture.applied(shares) as module:
            loss = self._loss(module(self.model.inputs[rows]), rows)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        self.forward += PASSES * len(rows) / self.model.evaluation_samples

    def _loss(self, logits: Tensor, rows: Tensor | slice) -> Tensor:
        share = self.options.distil
        total = torch.zeros(())
        if share:
            known = self._teacher[rows]
            divergence = F.kl_div(
                logits.log_softmax(1), known, log_target=True, reduction="batchmean"
            )
            total = total + share * divergence
        if share < 1:
            total = total + (1 - share) * F.cross_entropy(logits, self.model.labels[rows])
        return total

    def _rows(self, what: str) -> Tensor:
        """The next batch of a shuffled pass over the samples that ``what`` learns from."""
        count = len(self.model.inputs)
        own = torch.arange(count)
        if self._weights is not None:
            own = own[::2] if what == "shares" else own[1::2]
        size = min(self.options.batch, len(own))
        order = self._orders.get(what, own[:0])
        if len(order) < size:
            order = own[torch.randperm(len(own), generator=self.generator)]
        rows, self._orders[what] = order[:size], order[size:]
        return rows

    def _fall_back(self, kept: dict[str, Tensor], step: int) -> None:
        if self._halved:
            raise DataError(
                f"the loss ran away again at step {step} of a budget, at half the rate",
                where="strategy.dnas",
                expected="a loss that falls",
                fix=f"strategy.dnas.rate={self.options.rate / 4:g}, or a larger batch",
            )
        self._halved, self._rate = True, self._rate / 2
        self.relaxed.load_state_dict(kept)
