"""Deep deterministic policy gradient with one action in 0..1, as HAQ and AutoQ use it.

Lillicrap et al., arXiv 1509.02971; constants are those of HAQ's code (Wang et al., arXiv
1811.08886). Differences of AutoQ, HAQ's derivative in a production toolkit, are options.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DdpgOptions:
    """How the agent learns.

    Attributes:
        hidden: units of each hidden layer.
        actor_rate, critic_rate: of Adam.
        tau: share of the new weights in the slow copies, per update.
        batch: transitions per update.
        memory: episodes kept.
        warmup: episodes of uniformly random actions.
        sigma: of the truncated normal noise after that.
        decay: factor on ``sigma`` per episode.
        smoothing: weight of a batch's mean in the reward baseline.
        keep_best: share of the best episodes that a full memory never drops (AutoQ: .3); 0
            drops the oldest.
    """

    hidden: int = 300
    actor_rate: float = 1e-4
    critic_rate: float = 1e-3
    tau: float = 0.01
    batch: int = 64
    memory: int = 128
    warmup: int = 20
    sigma: float = 0.5
    decay: float = 0.99
    smoothing: float = 0.5
    keep_best: float = 0.0


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode: states ``float32[T, n]``, actions ``float32[T]`` in 0..1, its reward."""

    states: npt.NDArray[np.float32]
    actions: npt.NDArray[np.float32]
    reward: float


class Actor(nn.Module):
    """State to action."""

    def __init__(self, fields: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(fields, hidden), nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 1)

    def forward(self, state: Tensor) -> Tensor:
        """``[n, fields] -> [n]`` within 0..1."""
        x = F.relu(self.second(F.relu(self.first(state))))
        action: Tensor = torch.sigmoid(self.last(x))[:, 0]
        return action


class Critic(nn.Module):
    """State and action to value."""

    def __init__(self, fields: int, hidden: int) -> None:
        super().__init__()
        self.state, self.action = nn.Linear(fields, hidden), nn.Linear(1, hidden)
        self.second, self.last = nn.Linear(hidden, hidden), nn.Linear(hidden, 1)

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        """``[n, fields], [n] -> [n]``."""
        x = F.relu(self.state(state) + self.action(action[:, None]))
        value: Tensor = self.last(F.relu(self.second(x)))[:, 0]
        return value


class Ddpg:
    """The agent.

    Args:
        fields: entries of a state.
        options: see :class:`DdpgOptions`.
        seed: of networks, noise and batches.
    """

    def __init__(self, fields: int, options: DdpgOptions, seed: int) -> None:
        self.options, self.rng = options, np.random.default_rng(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.actor, self.slow_actor = (Actor(fields, options.hidden) for _ in range(2))
            self.critic, self.slow_critic = (Critic(fields, options.hidden) for _ in range(2))
        self.slow_actor.load_state_dict(self.actor.state_dict())
        self.slow_critic.load_state_dict(self.critic.state_dict())
        self._actor_step = torch.optim.Adam(self.actor.parameters(), options.actor_rate)
        self._critic_step = torch.optim.Adam(self.critic.parameters(), options.critic_rate)
        self.episodes: deque[Episode] = deque()
        self.finished = 0
        self._baseline: float | None = None

    @property
    def is_warm(self) -> bool:
        """Whether the random episodes are over."""
        return self.finished >= self.options.warmup

    @property
    def sigma(self) -> float:
        """Width of the noise now."""
        return self.options.sigma * self.options.decay ** max(
            self.finished - self.options.warmup, 0
        )

    def act(self, state: npt.NDArray[np.float32]) -> float:
        """An action for one state ``[fields]``, with exploration."""
        if not self.is_warm:
            return float(self.rng.random())
        with torch.no_grad():
            mean = float(self.actor(torch.from_numpy(state)[None])[0])
        return truncated_normal(self.rng, mean, self.sigma)

    def learn(self, episode: Episode) -> None:
        """Takes a finished episode; after the random ones, one update per step of it.

        A reward that is NaN leaves the memory as it is.
        """
        self.finished += 1
        if math.isfinite(episode.reward):
            self._remember(episode)
        if self.is_warm and self.episodes:
            for _ in range(len(episode.actions)):
                self._update()

    def _remember(self, episode: Episode) -> None:
        self.episodes.append(episode)
        if len(self.episodes) <= self.options.memory:
            return
        if not self.options.keep_best:
            self.episodes.popleft()
            return
        by_reward = sorted(range(len(self.episodes)), key=lambda i: self.episodes[i].reward)
        worst = by_reward[: max(1, int(len(by_reward) * (1 - self.options.keep_best)))]
        del self.episodes[int(self.rng.choice(worst))]

    def _update(self) -> None:
        states, actions, rewards, following, last = self._batch()
        mean = float(rewards.mean())
        share = self.options.smoothing
        self._baseline = (
            mean if self._baseline is None else share * mean + (1 - share) * self._baseline
        )
        with torch.no_grad():
            later = self.slow_critic(following, self.slow_actor(following))
            goal = rewards - self._baseline + (1 - last) * later
        error = F.mse_loss(self.critic(states, actions), goal)
        _descend(self._critic_step, error)
        _descend(self._actor_step, -self.critic(states, self.actor(states)).mean())
        for slow, fast in ((self.slow_actor, self.actor), (self.slow_critic, self.critic)):
            with torch.no_grad():
                for old, new in zip(slow.parameters(), fast.parameters(), strict=True):
                    old.lerp_(new, self.options.tau)

    def _batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Transitions drawn evenly; each carries its episode's reward."""
        steps = len(self.episodes[0].actions)
        picked = self.rng.integers(len(self.episodes) * steps, size=self.options.batch)
        found = [(self.episodes[i // steps], int(i % steps)) for i in picked.tolist()]
        final = [t + 1 == steps for _, t in found]
        states = np.stack([e.states[t] for e, t in found])
        following = np.stack([e.states[min(t + 1, steps - 1)] for e, t in found])
        return (
            torch.from_numpy(states),
            torch.tensor([float(e.actions[t]) for e, t in found]),
            torch.tensor([e.reward for e, _ in found], dtype=torch.float32),
            torch.from_numpy(following),
            torch.tensor(final, dtype=torch.float32),
        )


def truncated_normal(rng: np.random.Generator, mean: float, sigma: float) -> float:
    """A normal draw within 0..1, by rejection; the nearer end when that takes too long."""
    for _ in range(1000):
        value = rng.normal(mean, sigma)
        if 0 <= value <= 1:
            return float(value)
    return float(np.clip(mean, 0, 1))


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
