"""NSGA-II (Deb et al., 2002) through Optuna, in memory.

A resumed trial is replayed by the study loop, so nothing is kept in an Optuna storage (its
file storages cost 10 to 770 ms per candidate).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import optuna

from search.records import Result
from search.strategies.base import SearchContext, Strategy
from spaces.policy import Policy

PENALTY = 1e6


class Nsga2Strategy(Strategy):
    """Evolves choice indices towards low loss and low cost, all cost metrics at once.

    Args:
        population: individuals per generation (>= 2).
        mutation: probability of redrawing one group; Optuna's ``1/groups`` when None.
        crossover: probability of recombining two parents.
    """

    def __init__(
        self, population: int = 20, mutation: float | None = None, crossover: float = 0.9
    ) -> None:
        self._population, self._mutation, self._crossover = population, mutation, crossover

    def start(self, context: SearchContext) -> None:
        """See :class:`Strategy`."""
        super().start(context)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.NSGAIISampler(
            seed=int(context.rng.integers(2**31)),
            constraints_func=_violations if context.constraints else None,
            population_size=self._population,
            mutation_prob=self._mutation,
            crossover_prob=self._crossover,
        )
        minimise = optuna.study.StudyDirection.MINIMIZE
        directions = [minimise] * (1 + len(context.cost_metrics))
        self._study = optuna.create_study(sampler=sampler, directions=directions)
        self._space: dict[str, optuna.distributions.BaseDistribution] = {
            str(index): optuna.distributions.IntDistribution(0, int(size) - 1)
            for index, size in enumerate(context.space.sizes)
        }
        self._asked: list[tuple[optuna.trial.Trial, np.ndarray]] = []

    def ask(self, n: int) -> list[Policy]:
        """See :class:`Strategy`."""
        self._asked = []
        for _ in range(n):
            trial = self._study.ask(self._space)
            codes = np.array([trial.params[str(g)] for g in range(len(self._space))])
            self._asked.append((trial, codes))
        return [self.context.space.policy(codes) for _, codes in self._asked]

    def tell(self, results: Sequence[Result]) -> None:
        """See :class:`Strategy`."""
        for (trial, codes), result in zip(self._asked, results, strict=True):
            loss = self.context.loss(result)
            if math.isnan(loss):
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            costs = self.context.costs.costs(codes[None, :])
            trial.set_user_attr(
                "violations",
                [
                    float(costs[item.metric][0] / item.limit - 1.0) if item.limit else PENALTY
                    for item in self.context.constraints
                ],
            )
            values = [loss, *(float(costs[name][0]) for name in self.context.cost_metrics)]
            self._study.tell(trial, values)
        self._asked = []


def _violations(trial: optuna.trial.FrozenTrial) -> Sequence[float]:
    return list(trial.user_attrs.get("violations", []))
