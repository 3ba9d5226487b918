"""Strategies that are samplers of Optuna, in memory; the common half of all of them.

A resumed trial is replayed by the study loop, so nothing is kept in an Optuna storage (its
file storages cost 10 to 770 ms per candidate). Limits are hard: a draw beyond one is told as
failed and drawn again; after several such draws the nearest policy within takes its place.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import optuna

from quant.errors import InfeasibleError
from search.records import Result
from search.solvers.ilp import Limit, solve
from search.strategies.base import SearchContext, Strategy
from search.strategies.tables import cost_table, names, within
from spaces.policy import Policy

Codes = npt.NDArray[np.int64]


class SampledStrategy(Strategy):
    """Choice indices are integers of an Optuna study with one objective per loss and cost.

    Attributes:
        tries: draws beyond a limit before the nearest policy within the limits is taken.
    """

    tries = 20

    @abstractmethod
    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """A fresh sampler."""

    def start(self, context: SearchContext) -> None:
        """See :class:`Strategy`."""
        super().start(context)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = self.sampler(int(context.rng.integers(2**31)))
        minimise = optuna.study.StudyDirection.MINIMIZE
        self._study = optuna.create_study(
            sampler=sampler,
            directions=[minimise] * (1 + len(context.cost_metrics)),
        )
        self._space: dict[str, optuna.distributions.BaseDistribution] = {
            str(index): optuna.distributions.IntDistribution(0, int(size) - 1)
            for index, size in enumerate(context.space.sizes)
        }
        self._asked: list[tuple[optuna.trial.Trial, Codes]] = []

    def ask(self, n: int) -> list[Policy]:
        """See :class:`Strategy`.

        Raises:
            InfeasibleError: no policy satisfies the constraints.
        """
        self._asked = [self._drawn() for _ in range(n)]
        return [self.context.space.policy(codes) for _, codes in self._asked]

    def tell(self, results: Sequence[Result]) -> None:
        """See :class:`Strategy`."""
        for (trial, codes), result in zip(self._asked, results, strict=True):
            loss = self.context.loss(result)
            if math.isnan(loss):
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            costs = self.context.costs.costs(codes[None, :])
            values = [loss, *(float(costs[name][0]) for name in self.context.cost_metrics)]
            if np.array_equal(codes, self._codes(trial)):
                self._study.tell(trial, values)
                continue
            # Moved to fit: what was evaluated is told, in the place of what was drawn.
            drawn = self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            self._study.add_trial(
                optuna.trial.create_trial(
                    params={str(g): int(code) for g, code in enumerate(codes)},
                    distributions=self._space,
                    values=values,
                    system_attrs=drawn.system_attrs,
                )
            )
        self._asked = []

    def _drawn(self) -> tuple[optuna.trial.Trial, Codes]:
        """A trial and its codes, within the constraints."""
        for turn in range(self.tries):
            trial = self._study.ask(self._space)
            codes = self._codes(trial)
            if self.context.feasible(codes)[0]:
                return trial, codes
            if turn + 1 < self.tries:
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return trial, self._nearest(codes)

    def _codes(self, trial: optuna.trial.Trial) -> Codes:
        return np.array([trial.params[str(g)] for g in range(len(self._space))], dtype=np.int64)

    def _nearest(self, codes: Codes) -> Codes:
        """The policy within all limits that is the fewest steps away from ``codes``.

        The program knows the costs of groups only: where terms between layers carry a solution
        beyond a limit, the limit is drawn in by as much and the program solved again.
        """
        away = np.abs(np.arange(int(self.context.space.sizes.max())) - codes[:, None])
        offered = np.isfinite(cost_table(self.context, self.context.cost_metrics[0]))
        score = np.where(offered, away, np.nan).astype(np.float64)
        limits = within(self.context)
        for _ in range(self.tries):
            found = solve(score, limits, "highs", names(self.context)).codes
            if self.context.feasible(found)[0]:
                return found
            costs = self.context.costs.costs(found[None, :])
            limits = [
                Limit(item.cost, item.limit * min(1.0, hard.limit / float(costs[hard.metric][0])))
                for item, hard in zip(limits, self.context.constraints, strict=True)
            ]
        raise InfeasibleError(
            f"no policy found within the limits near {codes.tolist()}",
            where="constraints",
            fix="loosen a limit",
        )
