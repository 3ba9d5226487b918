"""Proximal policy optimisation with masked discrete actions, on many episodes at once.

Schulman et al., arXiv 1707.06347 (clipped objective, equation 7), with masks as in Huang and
Ontanon, arXiv 2006.14171. Episodes are short and of equal length, so a batch of them is one
tensor per step; sb3-contrib's MaskablePPO on the same problem is compared in
``docs/measurements.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from search.rl.episodes import Codes, Episodes, Floats, Problem

Returns = Callable[[Codes, Codes], Floats]
"""Return of finished policies ``int[N, G]`` under their costs ``int[N]``, higher is better."""
FORBIDDEN = -1e9


@dataclass(frozen=True)
class PpoOptions:
    """How the agent learns.

    Attributes:
        width: units of each of the two hidden layers.
        rate: Adam's rate; it falls to a tenth over the planned steps.
        episodes: played between two updates.
        epochs: passes over them.
        batches: steps of gradient descent in a pass.
        clip: of the ratio between the new and the old policy.
        entropy: weight of the entropy bonus at the start; it falls to zero.
    """

    width: int = 64
    rate: float = 3e-3
    episodes: int = 64
    epochs: int = 6
    batches: int = 4
    clip: float = 0.2
    entropy: float = 0.02


class Network(nn.Module):
    """Policy and value of an observation, no shared layers."""

    def __init__(self, fields: int, choices: int, width: int) -> None:
        super().__init__()
        self.policy = _mlp(fields, width, choices, 0.01)
        self.value = _mlp(fields, width, 1, 1.0)

    def logits(self, seen: Tensor, mask: Tensor) -> Tensor:
        """Log-probabilities up to a constant; forbidden choices have none."""
        found: Tensor = self.policy(seen).masked_fill(~mask, FORBIDDEN)
        return found


@dataclass(frozen=True, eq=False)
class Batch:
    """Finished episodes, step by step.

    Attributes:
        seen: ``float32[G, N, fields]``.
        masks: ``bool[G, N, B]``.
        actions: ``int[G, N]``.
        logprobs: of the actions under the policy that played, ``float32[G, N]``.
        codes: ``int[N, G]``.
        metric: ``int[N]``.
    """

    seen: Tensor
    masks: Tensor
    actions: Tensor
    logprobs: Tensor
    codes: Codes
    metric: Codes


class Ppo:
    """The agent.

    Args:
        problem: what is played on.
        options: see :class:`PpoOptions`.
        planned: steps that training will take, for the schedules.
        seed: of the network and of all play.
    """

    def __init__(self, problem: Problem, options: PpoOptions, planned: int, seed: int) -> None:
        self.problem, self.options, self.planned = problem, options, max(planned, 1)
        self.generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = Network(len(problem.fields), problem.width, options.width)
        self.optimiser = torch.optim.Adam(self.network.parameters(), options.rate, eps=1e-5)
        self.rng = np.random.default_rng(seed)
        self.steps = 0

    def play(
        self, metric: Codes, budget: Floats, *, greedy: bool = False, forced: Codes | None = None
    ) -> Batch:
        """Finishes one episode per budget.

        Args:
            metric: index of each cost, ``int[N]``.
            budget: ``float[N]``.
            greedy: takes the likeliest choice instead of drawing one.
            forced: policies to play instead, ``int[N, G]``; they must fit their budgets.
        """
        episodes = Episodes(self.problem, metric, budget)
        seen, masks, actions, logprobs = [], [], [], []
        while not episodes.is_done:
            view, mask = torch.from_numpy(episodes.observe()), torch.from_numpy(episodes.masks())
            with torch.no_grad():
                known = self.network.logits(view, mask).log_softmax(1)
            if forced is not None:
                action = torch.from_numpy(forced[:, episodes.step_index].astype(np.int64))
            elif greedy:
                action = known.argmax(1)
            else:
                action = torch.multinomial(known.exp(), 1, generator=self.generator)[:, 0]
            seen.append(view)
            masks.append(mask)
            actions.append(action)
            logprobs.append(known.gather(1, action[:, None])[:, 0])
            episodes.step(action.numpy())
        return Batch(
            torch.stack(seen),
            torch.stack(masks),
            torch.stack(actions),
            torch.stack(logprobs),
            episodes.codes,
            metric,
        )

    def budgets(self, count: int) -> tuple[Codes, Floats]:
        """Costs and budgets of ``count`` episodes, drawn evenly over the reachable ranges."""
        metric = self.rng.integers(len(self.problem.metrics), size=count)
        low, high = self.problem.range[metric].T
        return metric, low + self.rng.random(count) * (high - low)

    def train(self, returns: Returns, steps: int, shaping: Shaping | None = None) -> list[float]:
        """Plays and learns for ``steps`` steps; mean return of every update."""
        curve = []
        until = self.steps + steps
        while self.steps < until:
            batch = self.play(*self.budgets(self.options.episodes))
            found = returns(batch.codes, batch.metric)
            curve.append(float(np.mean(found)))
            self._update(batch, found, shaping)
            self.steps += batch.actions.numel()
        return curve

    def imitate(self, codes: Codes, metric: Codes, budget: Floats, epochs: int) -> float:
        """Behaviour cloning of policies ``int[N, G]``; the last mean log-likelihood."""
        batch = self.play(metric, budget, forced=codes)
        likelihood = torch.zeros(())
        for _ in range(epochs):
            logits = self.network.logits(batch.seen.flatten(0, 1), batch.masks.flatten(0, 1))
            chosen = logits.log_softmax(1).gather(1, batch.actions.reshape(-1, 1))
            likelihood = chosen.mean()
            self._descend(-likelihood)
        return float(likelihood.detach())

    def _update(self, batch: Batch, found: Floats, shaping: Shaping | None) -> None:
        options, left = self.options, max(0.0, 1 - self.steps / self.planned)
        for group in self.optimiser.param_groups:
            group["lr"] = options.rate * (0.1 + 0.9 * left)
        seen, masks = batch.seen.flatten(0, 1), batch.masks.flatten(0, 1)
        actions, before = batch.actions.reshape(-1, 1), batch.logprobs.reshape(-1)
        goal = torch.from_numpy(found).float().repeat(self.problem.groups)
        potential = torch.zeros(len(goal))
        if shaping is not None:
            potential = torch.from_numpy(shaping(batch.codes).T.reshape(-1).copy()).float()
        # The potential of a state is known: it is taken off what is left to learn, which
        # changes no optimal policy (Ng et al., 1999).
        with torch.no_grad():
            advantage = goal - potential - self.network.value(seen)[:, 0]
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        for _ in range(options.epochs):
            order = torch.randperm(len(seen), generator=self.generator)
            for rows in order.chunk(options.batches):
                known = self.network.logits(seen[rows], masks[rows]).log_softmax(1)
                ratio = (known.gather(1, actions[rows])[:, 0] - before[rows]).exp()
                clipped = ratio.clamp(1 - options.clip, 1 + options.clip)
                own = advantage[rows]
                gain = torch.minimum(ratio * own, clipped * own).mean()
                entropy = -(known.exp() * known.clamp(min=-50)).sum(1).mean()
                value = self.network.value(seen[rows])[:, 0]
                error = (value - (goal - potential)[rows]).square().mean()
                self._descend(-gain + 0.5 * error - options.entropy * left * entropy)

    def _descend(self, loss: Tensor) -> None:
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 0.5)
        self.optimiser.step()


Shaping = Callable[[Codes], npt.NDArray[np.float64]]
"""Potential of every state on the way to finished policies ``int[N, G]``, ``float[N, G]``: that
of step ``g`` knows the choices before ``g`` only."""


def additive_potential(scores: Floats) -> Shaping:
    """Minus the score of the choices taken so far, plus the least score of the rest.

    Args:
        scores: additive harm in units of the return, ``float[G, B]``, infinite where there is
            no choice.
    """
    least = scores.min(axis=1)
    rest = np.concatenate([np.cumsum(least[::-1])[::-1], [0.0]])

    def potential(codes: Codes) -> Floats:
        taken = scores[np.arange(len(scores)), codes]
        before = np.cumsum(taken, axis=1) - taken
        found: Floats = -(before + rest[None, :-1])
        return found

    return potential


def _mlp(inputs: int, width: int, outputs: int, gain: float) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(),
        nn.Linear(width, outputs),
    )  # fmt: skip
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight, 2**0.5)
            nn.init.zeros_(layer.bias)
    nn.init.orthogonal_(layers[-1].weight, gain)  # type: ignore[arg-type]
    return layers
