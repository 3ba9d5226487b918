"""Bayesian optimisation with Gaussian processes, through Optuna."""

from __future__ import annotations

import optuna

from search.strategies.sampled import SampledStrategy


class GpStrategy(SampledStrategy):
    """A process per objective; proposes by expected hypervolume gain.

    Args:
        startup: random policies before the processes are used (>= 1).
    """

    tries = 2  # a draw costs up to a second, and the next one is much like it

    def __init__(self, startup: int = 10) -> None:
        self._startup = startup

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """See :class:`SampledStrategy`."""
        return optuna.samplers.GPSampler(
            seed=seed,
            n_startup_trials=self._startup,
            deterministic_objective=True,
            warn_independent_sampling=False,
        )
