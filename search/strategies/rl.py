"""Masked discrete PPO over bit-widths, the budget in the state: one agent, a whole front.

1. Policies of the exact additive front are shown to the agent (behaviour cloning), each under a
   budget that just fits it.
2. It then plays on the surrogate's loss, budgets drawn over the reachable range; an additive
   score shapes the reward without changing what is optimal.
3. Its episodes are the candidates. True evaluations go to the one with the largest expected
   hypervolume gain, every ``explore``-th one to an episode as it was drawn.
4. What the evaluations teach corrects the rewards, and the agent trains on.

Training costs surrogate predictions, no true evaluations; both are counted apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from search.records import Result
from search.rl.episodes import Problem
from search.rl.ppo import Ppo, PpoOptions, Shaping, additive_potential
from search.strategies.base import SearchContext, Strategy, Work
from search.strategies.candidates import opened
from spaces.constraints import combined
from spaces.policy import Policy

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

GRID = 64
"""Budgets per cost at which the agent's likeliest policy becomes a candidate."""
REFRESHES = 8
"""Further trainings over which the learning rate falls; it stays low after them."""
KEPT = 4
"""Policies kept of a training for each of as many parts of the cost's range."""


class RlStrategy(Strategy):
    """See the module docstring.

    Args:
        score: kind of a score table that carries a surrogate.
        steps: of play before the first evaluation.
        refresh: evaluations between two further trainings.
        more: steps of each of those.
        explore: every so many evaluations one goes to an episode as it was drawn; 0 for none.
        warm_start: passes over the exact front's policies before play; 0 for none.
        shaping: whether the additive score shapes the reward.
        width: units of the agent's hidden layers.
        rate: its learning rate.
        episodes: between two updates.
    """

    def __init__(
        self,
        score: str = "lss",
        steps: int = 40_000,
        refresh: int = 10,
        more: int = 6_000,
        explore: int = 8,
        warm_start: int = 100,
        shaping: bool = True,
        width: int = 64,
        rate: float = 2e-3,
        episodes: int = 64,
    ) -> None:
        self._score, self._steps, self._more = score, steps, more
        self._refresh, self._explore, self._warm = refresh, explore, warm_start
        self._shaped = shaping
        self._options = PpoOptions(width=width, rate=rate, episodes=episodes)
        self._curve: list[float] = []

    def needs(self) -> frozenset[str]:
        """See :class:`Strategy`."""
        return frozenset({self._score})

    def work(self) -> Work:
        """See :class:`Strategy`."""
        return Work(surrogate=self._candidates.lookups)

    def start(self, context: SearchContext) -> None:
        """See :class:`Strategy`.

        Raises:
            UsageError: the score predicts no whole policies, or there is nothing to choose.
            InfeasibleError: no policy satisfies the constraints.
        """
        super().start(context)
        self._candidates, begin = opened(context, self._score, "rl")
        self._problem = Problem.of(context, self._score)
        seed = int(context.rng.integers(2**31))
        # Not of the budget: a study that is extended later must have asked the same so far.
        planned = self._steps + REFRESHES * self._more
        self._agent = Ppo(self._problem, self._options, planned, seed)
        if self._warm:
            self._imitate(begin)
        losses = self._candidates.predict(np.concatenate(begin))[0]
        self._candidates.worst = float(losses.max())
        self._unit = max(float(np.ptp(losses)), 1e-6)
        self._train(self._steps)
        self._told = 0

    def ask(self, n: int) -> list[Policy]:
        """See :class:`Strategy`."""
        self._asked: list[int] = []
        if self._explore and self._told % self._explore == self._explore - 1:
            self._asked = self._drawn()
        self._asked = self._asked or self._candidates.promising(n)
        codes = self._candidates.pool.codes
        return [self.context.space.policy(codes[row]) for row in self._asked]

    def tell(self, results: Sequence[Result]) -> None:
        """See :class:`Strategy`."""
        for row, result in zip(self._asked, results, strict=True):
            self._candidates.tell(row, result)
            self._told += 1
            if self._refresh and self._told % self._refresh == 0:
                self._train(self._more)

    def state_dict(self) -> dict[str, Any]:
        """The learning curve: mean return of every update, in units of the front's spread."""
        return {"steps": self._agent.steps, "curve": [round(value, 6) for value in self._curve]}

    def _train(self, steps: int) -> None:
        self._played: list[tuple[Codes, Floats]] = []
        self._curve += self._agent.train(self._returns, steps, self._potential())
        self._add_best()
        for index in range(len(self._problem.metrics)):
            low, high = self._problem.range[index]
            metric = np.full(GRID, index)
            budgets = np.linspace(low, high, GRID)
            for greedy in (True, False):
                batch = self._agent.play(metric, budgets, greedy=greedy)
                self._candidates.add(batch.codes)

    def _returns(self, codes: Codes, metric: Codes) -> Floats:
        """Minus the expected log-loss, in units of the front's spread."""
        del metric
        unique, place = np.unique(codes, axis=0, return_inverse=True)
        expected = self._candidates.expected(unique)
        self._played.append((unique, expected))
        return -expected[place.reshape(-1)] / self._unit

    def _add_best(self) -> None:
        """The episodes of a training become candidates: the best few of every cost."""
        if not self._played:
            return
        codes, place = np.unique(
            np.concatenate([c for c, _ in self._played]), axis=0, return_index=True
        )
        expected = np.concatenate([loss for _, loss in self._played])[place]
        costs = self.context.costs.costs(codes)
        for index, metric in enumerate(self._problem.metrics):
            low, high = self._problem.range[index]
            # A device may have one latency for all policies; sums then differ by rounding alone.
            span = max(high - low, 1e-9 * abs(high), 1e-300)
            share = (costs[metric] - low) / span
            places = np.clip(share * GRID, 0, GRID - 1).astype(int)
            order = np.lexsort((expected, places))
            first = np.searchsorted(places[order], places[order])
            best = order[np.arange(len(order)) - first < KEPT]
            self._candidates.add(codes[best])

    def _potential(self) -> Shaping | None:
        if not self._shaped:
            return None
        offered = self._problem.offered
        harm = np.where(offered, self._problem.harm, np.inf)
        # In units of the return: the whole range of additive harm counts as one.
        return additive_potential(harm / self._problem.most_harm)

    def _imitate(self, begin: Sequence[Codes]) -> None:
        """Shows the agent the fronts, each policy under the budget it needs."""
        codes, metrics, budgets = [], [], []
        for index, points in enumerate(begin):
            costs = self._problem.costs[index][np.arange(self._problem.groups), points]
            codes.append(points)
            metrics.append(np.full(len(points), index))
            budgets.append(combined(self._problem.metrics[index], costs))
        self._agent.imitate(
            np.concatenate(codes), np.concatenate(metrics), np.concatenate(budgets), self._warm
        )

    def _drawn(self) -> list[int]:
        """A row that an episode of the agent as it is leads to, if it is a new one."""
        batch = self._agent.play(*self._agent.budgets(1))
        self._candidates.add(batch.codes)
        row = self._candidates.pool.row[batch.codes[0].tobytes()]
        return [] if row < 0 or self._candidates.is_told(row) else [row]
