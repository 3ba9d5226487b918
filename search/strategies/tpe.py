"""The tree-structured Parzen estimator (Bergstra et al., 2011) through Optuna."""

from __future__ import annotations

import optuna

from search.strategies.sampled import SampledStrategy


class TpeStrategy(SampledStrategy):
    """Models good and bad policies by densities, all groups together.

    Args:
        startup: random policies before the densities are used (>= 1).
        candidates: draws from the good density per proposal (>= 1).
        constant_liar: pending policies of a batch count as bad, so that a batch spreads.
    """

    def __init__(
        self, startup: int = 10, candidates: int = 24, constant_liar: bool = True
    ) -> None:
        self._startup, self._candidates, self._liar = startup, candidates, constant_liar

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """See :class:`SampledStrategy`."""
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=self._startup,
            n_ei_candidates=self._candidates,
            multivariate=True,
            constant_liar=self._liar,
            warn_independent_sampling=False,
        )
