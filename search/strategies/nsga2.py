"""NSGA-II (Deb et al., 2002) through Optuna."""

from __future__ import annotations

import optuna

from search.strategies.sampled import SampledStrategy


class Nsga2Strategy(SampledStrategy):
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

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """See :class:`SampledStrategy`."""
        return optuna.samplers.NSGAIISampler(
            seed=seed,
            population_size=self._population,
            mutation_prob=self._mutation,
            crossover_prob=self._crossover,
        )
