"""HAQ: a DDPG agent that picks widths layer by layer, as its authors coded it.

Wang et al., arXiv 1811.08886. One agent per budget, as there: its reward knows no cost. Known
faults of the published code are not repeated: the reward is measured on data kept apart (not the
running training accuracy), no width of -1 indexes a table from its end, and the memory holds the
action that was projected into the budget, not the one that was proposed.

``variant: autoq`` is the derivative of a production toolkit: widths snap to those on offer, the
reward is spread over the steps and scaled by its order of magnitude, noise decays by the number
of episodes, a full memory keeps the best, and only weights are lowered to meet the budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from quant.errors import InfeasibleError, UsageError, unknown
from search.records import Result
from search.rl.ddpg import Ddpg, DdpgOptions, Episode
from search.rl.projection import budget_sweep
from search.strategies.base import SearchContext, Strategy
from spaces.constraints import TOLERANCE, reachable
from spaces.layers import LayerSpec
from spaces.policy import Policy
from spaces.space import Group, SearchSpace

VARIANTS = ("haq", "autoq")
DECAYS = (0.960, 0.980, 0.987, 0.992, 0.993, 0.995, 0.995, 0.996, 0.996)
"""AutoQ's factor on the noise, per hundred episodes planned."""
REWARD = 10.0
"""0.1 per percentage point of accuracy."""
WEIGHT, INPUT = 0, 1
Widths = tuple[int, int]


@dataclass(frozen=True)
class Ladder:
    """Widths a group offers.

    Attributes:
        codes: choice of each pair of weight and input bits.
        weights: weight bits, ascending.
        inputs: input bits, ascending.
    """

    codes: dict[Widths, int]
    weights: tuple[int, ...]
    inputs: tuple[int, ...]

    @staticmethod
    def of(group: Group) -> Ladder:
        """The first choice of every pair of widths."""
        codes: dict[Widths, int] = {}
        for index, choice in enumerate(group.choices):
            codes.setdefault((choice.weight.bits, choice.activation.bits), index)
        weights, inputs = ({pair[side] for pair in codes} for side in (WEIGHT, INPUT))
        return Ladder(codes, tuple(sorted(weights)), tuple(sorted(inputs)))

    def nearest(self, widths: Widths) -> Widths:
        """The pair on offer with the least total distance; fewer bits on ties."""
        return min(self.codes, key=lambda p: (abs(p[0] - widths[0]) + abs(p[1] - widths[1]), p))

    def lower(self, widths: Widths, side: int) -> Widths | None:
        """One width less on one side, the other side as it is; None at the end."""
        other = 1 - side
        less = [p for p in self.codes if p[other] == widths[other] and p[side] < widths[side]]
        return max(less, key=lambda p: p[side]) if less else None


@dataclass(eq=False)
class Track:
    """One budget and its agent."""

    metric: str
    limit: float
    agent: Ddpg


class HaqStrategy(Strategy):
    """See the module docstring.

    Args:
        variant: one of :data:`VARIANTS`.
        budgets: agents per cost metric, their limits spread evenly over the reachable range.
        warmup: episodes of random actions of each agent.
        hidden: units of the hidden layers.
        decay: factor on the noise per episode; AutoQ has its own.
        batch: transitions per update.
        planned: episodes of each agent, which tell AutoQ how fast noise decays.
    """

    def __init__(
        self,
        variant: str = "haq",
        budgets: int = 6,
        warmup: int = 20,
        hidden: int = 300,
        decay: float = 0.99,
        batch: int = 64,
        planned: int = 0,
    ) -> None:
        if variant not in VARIANTS:
            raise unknown("variant", variant, VARIANTS, where="strategy.haq.variant")
        if budgets < 1 or warmup < 1:
            raise UsageError("budgets and warmup are at least 1", where="strategy.haq")
        self._autoq, self._budgets, self._planned = variant == "autoq", budgets, planned
        self._options = DdpgOptions(hidden=hidden, batch=batch, warmup=warmup, decay=decay)

    def check(self, space: SearchSpace) -> None:
        """See :class:`Strategy`.

        Raises:
            UsageError: no group offers a second width.
        """
        if all(len(Ladder.of(group).codes) < 2 for group in space.groups):
            raise UsageError(
                "no group offers more than one width: there is nothing to decide",
                where="strategy.haq",
                expected="at least one group with choices of different widths",
            )

    def start(self, context: SearchContext) -> None:
        """See :class:`Strategy`.

        Raises:
            InfeasibleError: no budget leaves a policy within the constraints.
        """
        super().start(context)
        self._ladders = [Ladder.of(group) for group in context.space.groups]
        widths = [pair for ladder in self._ladders for pair in ladder.codes]
        self._ends = [(min(p[s] for p in widths), max(p[s] for p in widths)) for s in (0, 1)]
        self._steps = [
            (group, side)
            for group, ladder in enumerate(self._ladders)
            for side in (WEIGHT, INPUT)
            if len((ladder.weights, ladder.inputs)[side]) > 1
        ]
        self._geometry = _scaled(context.space)
        options = replace(self._options, memory=128)
        if self._autoq:
            options = replace(
                options,
                decay=DECAYS[min(self._planned // 100, len(DECAYS) - 1)],
                keep_best=0.3,
                memory=options.warmup,
            )
        self._tracks = [
            Track(
                metric,
                limit,
                Ddpg(len(self._state(0, 0.0)), options, int(context.rng.integers(2**31))),
            )
            for metric in context.cost_metrics
            for limit in self._limits(metric)
        ]
        self._turn = 0
        least = [ladder.nearest((0, 0)) for ladder in self._ladders]
        lowest = [self._project(least, track) for track in self._tracks]
        if not any(context.feasible(self._codes(found))[0] for found in lowest):
            raise InfeasibleError(
                "no policy of the agents' budgets satisfies the constraints",
                where="strategy.haq",
                fix="loosen the constraints",
            )

    def ask(self, n: int) -> list[Policy]:
        """See :class:`Strategy`."""
        self._playing: list[tuple[Track, list[Widths]]] = []
        while len(self._playing) < n:
            track = self._tracks[self._turn % len(self._tracks)]
            self._turn += 1
            self._playing.append((track, self._episode(track)))
        space = self.context.space
        return [space.policy(self._codes(widths)) for _, widths in self._playing]

    def tell(self, results: Sequence[Result]) -> None:
        """See :class:`Strategy`."""
        for (track, widths), result in zip(self._playing, results, strict=True):
            states, actions = self._replayed(widths)
            track.agent.learn(Episode(states, actions, self._reward(result)))

    def _episode(self, track: Track) -> list[Widths]:
        """Widths of every group, projected into the budget and the constraints."""
        widths = [ladder.nearest((99, 99)) for ladder in self._ladders]
        action = 0.0
        for step, (group, side) in enumerate(self._steps):
            action = track.agent.act(self._state(step, action))
            wanted = list(widths[group])
            wanted[side] = self._bits(action, side)
            widths[group] = self._ladders[group].nearest((wanted[0], wanted[1]))
        return self._project(widths, track)

    def _project(self, widths: Sequence[Widths], track: Track) -> list[Widths]:
        def cost(found: Sequence[Widths]) -> float:
            codes = self._codes(found)[None, :]
            over = 0.0 if self.context.feasible(codes)[0] else np.inf
            return float(self.context.costs.costs(codes)[track.metric][0]) + over

        sides = (WEIGHT,) if self._autoq else (INPUT, WEIGHT)
        ways = [
            lambda group, found, side=side: self._ladders[group].lower(found, side)
            for side in sides
        ]
        return budget_sweep(list(widths), cost, track.limit * (1 + TOLERANCE), ways)[0]

    def _replayed(
        self, widths: Sequence[Widths]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """States and actions that lead to the projected widths."""
        states, actions = [], []
        action = 0.0
        for step, (group, side) in enumerate(self._steps):
            states.append(self._state(step, action))
            low, high = self._ends[side]
            action = (widths[group][side] - low + 0.5) / (high - low + 1)
            actions.append(action)
        return np.stack(states), np.array(actions, dtype=np.float32)

    def _reward(self, result: Result) -> float:
        if self.context.quality == "accuracy" or math.isfinite(result.accuracy):
            score = result.accuracy
        else:
            score = -self.context.loss(result)
        if self._autoq:
            magnitude = 10.0 ** -math.floor(math.log10(max(abs(score), 1e-9)))
            return score * magnitude / len(self._steps)
        return REWARD * score

    def _bits(self, action: float, side: int) -> int:
        """``round((max - min + 1) a + min - 1/2)``, kept within the ends."""
        low, high = self._ends[side]
        return int(np.clip(round((high - low + 1) * action + low - 0.5), low, high))

    def _state(self, step: int, previous: float) -> npt.NDArray[np.float32]:
        """Geometry, layer index, previous action, and which side is asked for."""
        group, side = self._steps[step]
        return np.array([*self._geometry[group], previous, float(side)], dtype=np.float32)

    def _codes(self, widths: Sequence[Widths]) -> npt.NDArray[np.int64]:
        pairs = zip(self._ladders, widths, strict=True)
        return np.array([ladder.codes[pair] for ladder, pair in pairs], dtype=np.int64)

    def _limits(self, metric: str) -> list[float]:
        """Budgets between the cheapest and the dearest policy, the ends left out."""
        low, high = reachable(self.context.costs.table(metric), self.context.space.sizes, metric)
        shares = (np.arange(self._budgets) + 1) / (self._budgets + 1)
        return [float(low + share * (high - low)) for share in shares]


def _scaled(space: SearchSpace) -> npt.NDArray[np.float64]:
    """Eight features of each group's first layer, each column within 0..1 unless constant."""
    layers = [space.layer_named[group.layers[0]] for group in space.groups]
    rows = np.array([_features(layer, index) for index, layer in enumerate(layers)])
    low, high = rows.min(axis=0), rows.max(axis=0)
    spread = np.where(high > low, high - low, 1.0)
    return np.where(high > low, (rows - low) / spread, rows)


def _features(layer: LayerSpec, index: int) -> list[float]:
    """Depthwise flag, channels in and out, stride, kernel, weights, input size, index."""
    is_linear = layer.op == "linear"
    return [
        float(layer.is_depthwise),
        float(layer.weight_shape[1] * layer.groups),
        float(layer.out_channels),
        0.0 if is_linear else float(layer.stride[0]),
        1.0 if is_linear else float(layer.weight_shape[-1]),
        float(layer.weight_count),
        float(np.prod(layer.input_shape[2:])) if not is_linear else 1.0,
        float(index),
    ]
