"""The search as a Gymnasium environment, for any agent library.

One episode builds one policy: a step per tie group, ``Discrete`` choices. ``action_masks()`` is
the protocol of sb3-contrib. The reward is given at the end: minus the loss that ``judge`` finds
for the policy; a loss of NaN ends the episode with ``failed`` in ``info`` and a reward of
``-penalty``, so that training goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from search.rl.episodes import Codes, Episodes, Problem

Judge = Callable[[Codes], float]
"""Loss of the policy ``int[G]``, lower is better; NaN where it cannot be evaluated."""


class BitWidthEnv(gym.Env[npt.NDArray[np.float32], np.int64]):
    """See the module docstring.

    Args:
        problem: groups, choices, costs.
        judge: evaluates finished policies.
        budget: share 0..1 of the reachable range of the cost; None draws one per episode.
        metric: name of the cost; None draws one per episode.
        penalty: what a policy without a loss costs.

    The observation is ``float32[len(problem.fields)]`` within 0..1, named field by field in
    ``problem.fields``. Options of ``reset``: ``budget`` and ``metric`` for that episode.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - gymnasium's own attribute

    def __init__(
        self,
        problem: Problem,
        judge: Judge,
        *,
        budget: float | None = None,
        metric: str | None = None,
        penalty: float = 10.0,
    ) -> None:
        self.problem, self._judge = problem, judge
        self._budget, self._metric, self._penalty = budget, metric, penalty
        self.observation_space = gym.spaces.Box(0.0, 1.0, (len(problem.fields),), np.float32)
        self.action_space = gym.spaces.Discrete(problem.width)
        self._episode: Episodes | None = None

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Starts an episode.

        Raises:
            InfeasibleError: the budget is below the cheapest policy.
        """
        super().reset(seed=seed)
        given = dict(options or {})
        share = given.get("budget", self._budget)
        share = float(self.np_random.random()) if share is None else float(share)
        name = given.get("metric", self._metric)
        names = self.problem.metrics
        index = int(self.np_random.integers(len(names))) if name is None else names.index(name)
        low, high = self.problem.range[index]
        budget = np.array([low + share * (high - low)])
        self._episode = Episodes(self.problem, np.array([index]), budget)
        return self._episode.observe()[0], {"budget": float(budget[0]), "metric": names[index]}

    def step(
        self, action: int | np.int64
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Takes a choice; one that the mask forbids becomes the nearest one it allows."""
        episode = self._running()
        allowed = np.flatnonzero(episode.masks()[0])
        taken = int(allowed[np.argmin(np.abs(allowed - int(action)))])
        episode.step(np.array([taken]))
        info: dict[str, Any] = {"action": taken}
        if not episode.is_done:
            return episode.observe()[0], 0.0, False, False, info
        loss = float(self._judge(episode.codes[0]))
        failed = not np.isfinite(loss)
        info |= {"codes": episode.codes[0].tolist(), "loss": loss, "failed": failed}
        reward = -self._penalty if failed else -loss
        return episode.observe()[0], reward, True, False, info

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Choices that keep the budget within reach, ``bool[most choices]``."""
        found: npt.NDArray[np.bool_] = self._running().masks()[0]
        return found

    def _running(self) -> Episodes:
        if self._episode is None:
            msg = "reset the environment first"
            raise RuntimeError(msg)
        return self._episode
