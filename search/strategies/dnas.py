"""Differentiable search: shares of choices learned through the model itself, then projected.

Budgets of every cost are visited from generous to tight, each beginning where the last ended.
After each, three projections onto one choice per group are proposed: the likeliest choices, the
exact front of ``-log p`` (one solution for all budgets), and, where a surrogate is at hand, the
best of their neighbourhood by it. Every proposal goes through the common evaluator. With a
surrogate, evaluations after the first sweep go to the points of all those fronts with the largest
expected hypervolume gain. The discretisation gap, the loss of a projected policy minus that of
the mixture, is kept.

Weights stay as the quantized model has them: only the shares learn, which a few hundred
calibration samples and one core can do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quant.errors import UsageError, unknown
from search.dnas.budget import penalty
from search.dnas.expected import ExpectedCost
from search.dnas.mixture import Mixture, ladder_order
from search.dnas.relaxations import Ladder, relaxation
from search.dnas.training import Trainer, TrainingOptions
from search.records import Result
from search.solvers.front_dp import solve_front
from search.solvers.problem import from_tables
from search.solvers.refine import neighbours
from search.strategies.base import Queue, SearchContext, Strategy, Work
from search.strategies.candidates import Candidates
from search.strategies.tables import cost_of, cost_table, names
from spaces.constraints import TOLERANCE, reachable
from spaces.policy import Policy

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

WEIGHTS = ("frozen", "alternate")
LEAST_SHARE = 1e-6
AROUND = 3
"""Single changes tried one after the other when a projection is refined."""


class DnasStrategy(Strategy):
    """See the module docstring.

    Args:
        score: kind of a score table: where shares begin, and the surrogate of the third
            projection; empty for equal shares and two projections.
        relaxation: ``softmax``, ``gumbel``, ``fractional``, ``gated`` or ``learned_range``.
        penalty: ``lagrangian``, ``log_product`` or ``barrier``.
        budgets: per cost and sweep; a later sweep visits the middles.
        steps: of gradient descent per budget.
        rate: of Adam.
        batch: calibration samples per step.
        hot: temperature at the first step of a budget.
        cold: at its last.
        one_hot: weight of the entropy late in a budget.
        distil: share of the loss that is the KL to the float model.
        weights: ``frozen``, or ``alternate``: copies of the weights and their steps (LSQ) learn
            too, in turns, on the other half of the samples. They serve the search alone: every
            policy is judged as the study quantizes it.
        weight_rate: of Adam, on those.
    """

    needs_model = True

    def __init__(
        self,
        score: str = "lss",
        relaxation: str = "softmax",
        penalty: str = "lagrangian",
        budgets: int = 8,
        steps: int = 20,
        rate: float = 0.1,
        batch: int = 50,
        hot: float = 1.0,
        cold: float = 0.2,
        one_hot: float = 0.05,
        distil: float = 1.0,
        weights: str = "frozen",
        weight_rate: float = 1e-3,
    ) -> None:
        if weights not in WEIGHTS:
            raise unknown("weights", weights, WEIGHTS, where="strategy.dnas.weights")
        self._trained = weights == "alternate"
        self._score, self._relaxation = score, relaxation
        self._budgets, self._steps = budgets, steps
        self._options = TrainingOptions(
            rate, batch, hot, cold, one_hot, distil, penalty, weight_rate
        )
        if budgets < 1 or steps < 1 or batch < 1:
            raise UsageError("budgets, steps and batch are at least 1", where="strategy.dnas")

    def needs(self) -> frozenset[str]:
        """See :class:`Strategy`."""
        return frozenset({self._score} if self._score else ())

    def work(self) -> Work:
        """See :class:`Strategy`."""
        looked = self._candidates.lookups if self._candidates is not None else 0
        return Work(looked, self._trainer.forward)

    def start(self, context: SearchContext) -> None:
        """See :class:`Strategy`.

        Raises:
            UsageError: there is no model to learn through, nothing to choose, or a relaxation or
                penalty of that name does not exist.
        """
        super().start(context)
        penalty(self._options.penalty)
        if context.trainable is None:
            raise UsageError(
                "there is no model to learn through",
                where="strategy.dnas",
                expected="a study of a task, not a table alone",
            )
        if int(context.space.sizes.max()) < 2:
            raise UsageError(
                "no group has more than one choice: nothing can be learned",
                where="strategy.dnas",
                expected="at least one group with two choices",
            )
        model = context.trainable()
        generator = torch.Generator().manual_seed(int(context.rng.integers(2**31)))
        self._tables = {metric: cost_table(context, metric) for metric in context.cost_metrics}
        self._costs = {
            metric: ExpectedCost(context.costs, context.space, metric)
            for metric in context.cost_metrics
        }
        ladder = self._ladder()
        relaxed = relaxation(self._relaxation, ladder, generator)
        harm, self._candidates = self._prior()
        relaxed.start(harm)
        mixture = Mixture(model.quantized, context.space, trained=self._trained)
        self._trainer = Trainer(model, mixture, relaxed, self._options, generator)
        self._queue = Queue(context.space)
        self._plan = self._sweeps()
        self._gaps: list[dict[str, float]] = []
        self._swept = 0

    def ask(self, n: int) -> list[Policy]:
        """See :class:`Strategy`.

        Raises:
            DataError: training ran away twice.
        """
        while not self._queue.waiting:
            if self._swept >= self._budgets * len(self.context.cost_metrics):
                self._push_promising()
            following = None if self._queue.waiting else next(self._plan, None)
            if following is not None:
                self._learn(*following)
                self._swept += 1
            elif not self._queue.waiting:
                return []
        policies = self._queue.pop(n)
        self._asked = [self.context.space.codes(policy) for policy in policies]
        return policies

    def tell(self, results: Sequence[Result]) -> None:
        """Shares learn from the calibration split alone; the choice among projections does not."""
        if self._candidates is None:
            return
        for codes, result in zip(self._asked, results, strict=True):
            self._candidates.add(codes[None, :])
            row = self._candidates.pool.row[np.ascontiguousarray(codes).tobytes()]
            if row >= 0:
                self._candidates.tell(row, result)

    def _push_promising(self) -> None:
        """After the first sweep: the point of all fronts of ``-log p`` worth most."""
        if self._candidates is None:
            return
        for row in self._candidates.promising(1):
            self._queue.push(self._candidates.pool.codes[row])

    def state_dict(self) -> dict[str, Any]:
        """Loss, entropy and excess over the budget of every step, and the gaps."""
        record = self._trainer.record
        return {
            "loss": [round(value, 6) for value in record.loss],
            "entropy": [round(value, 6) for value in record.entropy],
            "excess": [round(value, 6) for value in record.excess],
            "gaps": self._gaps,
        }

    def _learn(self, metric: str, budget: float) -> None:
        """One budget: training, projections, and the gap of the likeliest policy."""
        shares = self._trainer.learn(self._costs[metric], budget, self._steps)
        likeliest = shares.argmax(1).numpy().astype(np.int64)
        proposals = [likeliest, *self._from_front(metric, budget, shares)]
        proposals += [self._refined(metric, budget, codes) for codes in proposals]
        for codes in proposals:
            if self.context.feasible(codes)[0]:
                self._queue.push(codes)
        if self._candidates is not None:
            self._candidates.add(self._front)
            self._candidates.add(neighbours(proposals[-1], self.context.space.sizes))
            seen = self._candidates.pool.predicted
            self._candidates.worst = float(seen.max()) if len(seen) else np.inf
        one_hot = torch.zeros_like(shares).scatter_(1, torch.from_numpy(likeliest)[:, None], 1.0)
        mixed, single = (self._trainer.loss_of(p) for p in (shares, one_hot))
        self._gaps.append(
            {"metric_budget": budget, "mixture": mixed, "projected": single, "gap": single - mixed}
        )

    def _from_front(self, metric: str, budget: float, shares: Tensor) -> list[Codes]:
        """The exact least ``-log p`` within the budget, and its two neighbours on the front."""
        width = int(self.context.space.sizes.max())
        harm = -np.log(np.maximum(shares[:, :width].numpy().astype(np.float64), LEAST_SHARE))
        problem = from_tables(
            harm, [cost_of(self.context, metric)], self.context.space.sizes, names(self.context)
        )
        front = solve_front(problem)
        codes = np.array(front.codes, dtype=np.int64)
        self._front = codes
        fits = np.flatnonzero(front.cost[:, 0] <= budget * (1 + TOLERANCE))
        if not len(fits):
            return [codes[int(np.argmin(front.cost[:, 0]))]]
        best = int(fits[np.argmax(front.cost[fits, 0])])
        return [codes[i] for i in (best, best - 1, best + 1) if 0 <= i < len(codes)]

    def _refined(self, metric: str, budget: float, codes: Codes) -> Codes:
        """The best policy within the budget that few single changes reach, by the surrogate."""
        if self._candidates is None:
            return codes
        cost = float(self.context.costs.costs(codes[None, :])[metric][0])
        limit = max(cost, budget) * (1 + TOLERANCE)
        for _ in range(AROUND):
            around = np.concatenate([codes[None, :], neighbours(codes, self.context.space.sizes)])
            fits = (self.context.costs.costs(around)[metric] <= limit) & self.context.feasible(
                around
            )
            if not fits.any():
                return codes
            around = around[fits]
            better = around[int(np.argmin(self._candidates.predict(around)[0]))]
            if np.array_equal(better, codes):
                break
            codes = better
        return codes

    def _sweeps(self) -> Iterator[tuple[str, float]]:
        """Budgets of all costs, generous ones first; middles of the gaps in later sweeps."""
        for sweep in range(4):
            count = self._budgets * 2**sweep
            shares = (
                [(i + 0.5) / count for i in range(count)]
                if sweep
                else [(i + 1) / (count + 1) for i in range(count)]
            )
            for share in reversed(shares):
                for metric in self.context.cost_metrics:
                    low, high = reachable(
                        self.context.costs.table(metric), self.context.space.sizes, metric
                    )
                    yield metric, float(low + share * (high - low))

    def _ladder(self) -> Ladder:
        sizes = self.context.space.sizes
        table = self._tables[self.context.cost_metrics[0]]
        bits = np.zeros(table.shape)
        for index, group in enumerate(self.context.space.groups):
            for code, choice in enumerate(group.choices):
                bits[index, code] = choice.weight.bits
        return Ladder(
            ladder_order(torch.from_numpy(np.nan_to_num(table)), sizes.tolist()),
            torch.from_numpy(sizes),
            torch.from_numpy(bits).float(),
        )

    def _prior(self) -> tuple[Tensor, Candidates | None]:
        """Harm of each choice as a share of the largest, and the surrogate's predictions."""
        shape = self._tables[self.context.cost_metrics[0]].shape
        if not self._score:
            return torch.zeros(shape), None
        table = self.context.scores[self._score]
        harm = np.clip(np.nan_to_num(table.value[:, : shape[1]]), 1e-12, None)
        # Harm spans orders of magnitude; its logarithm tells choices apart at both ends.
        scaled = np.log(harm / harm.min()) / max(float(np.log(harm.max() / harm.min())), 1e-12)
        if table.surrogate is None:
            return torch.from_numpy(scaled).float(), None
        first = self._tables[self.context.cost_metrics[0]]
        dearest = np.array([np.nanargmax(row) for row in first], dtype=np.int64)
        candidates = Candidates(self.context, table.surrogate, dearest[None, :])
        return torch.from_numpy(scaled).float(), candidates
