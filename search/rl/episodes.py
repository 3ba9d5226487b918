"""Many episodes at once: one step per group of layers, a choice each, under a cost budget.

The mask offers the choices that keep the budget within reach: what is spent, plus the choice,
plus the cheapest choices of all later groups. An episode that starts with a reachable budget
therefore always ends within it, as far as additive costs go; transition terms between layers are
not seen here, and a hard limit on them is checked on the finished policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from quant.errors import InfeasibleError, UsageError
from search.strategies.base import SearchContext
from search.strategies.tables import cost_table
from spaces.constraints import TOLERANCE, reachable, rule_of
from spaces.layers import LayerSpec
from spaces.space import SearchSpace

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

GEOMETRY = (
    "position",
    "log_weights",
    "log_macs",
    "log_input",
    "log_output",
    "kernel",
    "stride",
    "is_linear",
    "is_depthwise",
    "choices",
)
STATE = ("budget", "spent", "slack", "harm", "previous_choice", "previous_harm")
PER_CHOICE = ("cost", "harm")


@dataclass(frozen=True, eq=False)
class Problem:
    """What episodes are played on.

    Attributes:
        metrics: names of the costs.
        sizes: choices of each group, ``int[G]``.
        costs: ``float[M, G, B]``, padded with infinity.
        harm: additive score of each choice as a share of the largest, ``float[G, B]``, 0 where
            there is none; it only informs, rewards come from elsewhere.
        geometry: ``float[G, len(GEOMETRY)]``, each column within 0..1.
    """

    metrics: tuple[str, ...]
    sizes: Codes
    costs: Floats
    harm: Floats
    geometry: Floats

    @staticmethod
    def of(context: SearchContext, kind: str) -> Problem:
        """The problem of a trial; ``kind`` is a score of its context, or empty."""
        space = context.space
        tables = [cost_table(context, metric) for metric in context.cost_metrics]
        costs = np.stack([np.where(np.isnan(table), np.inf, table) for table in tables])
        harm = np.zeros(costs.shape[1:])
        if kind:
            value = np.nan_to_num(context.scores[kind].value[:, : costs.shape[2]])
            harm = np.clip(value, 0, None) / max(float(np.max(value)), 1e-300)
        return Problem(context.cost_metrics, space.sizes, costs, harm, geometry_of(space))

    @property
    def groups(self) -> int:
        """Steps of an episode."""
        return len(self.sizes)

    @property
    def width(self) -> int:
        """Most choices of a group, the size of the action space."""
        return int(self.costs.shape[2])

    @property
    def fields(self) -> tuple[str, ...]:
        """Name of every entry of an observation; all lie within 0..1."""
        return (
            *GEOMETRY,
            *STATE,
            *(f"metric={name}" for name in self.metrics),
            *(f"{name}[{c}]" for name in PER_CHOICE for c in range(self.width)),
        )

    @cached_property
    def offered(self) -> Bools:
        """Which choices there are, ``bool[G, B]``."""
        found: Bools = np.arange(self.width)[None, :] < self.sizes[:, None]
        return found

    @cached_property
    def cheapest_later(self) -> Floats:
        """Least cost of all groups from ``g`` on, ``float[M, G + 1]``."""
        least = self.costs.min(axis=2)
        found = np.zeros((len(self.metrics), self.groups + 1))
        for index, metric in enumerate(self.metrics):
            for g in range(self.groups - 1, -1, -1):
                later, own = found[index, g + 1], least[index, g]
                found[index, g] = max(later, own) if rule_of(metric) == "max" else later + own
        return found

    @cached_property
    def most_harm(self) -> float:
        """Additive score of the worst policy; 1 where there are no scores."""
        return float(self.harm.max(axis=1).sum()) or 1.0

    @cached_property
    def range(self) -> Floats:
        """Least and greatest cost of a policy, ``float[M, 2]``."""
        tables = np.where(np.isinf(self.costs), np.nan, self.costs)
        ends = [
            reachable(np.nan_to_num(table), self.sizes, metric)
            for table, metric in zip(tables, self.metrics, strict=True)
        ]
        return np.array(ends)


class Episodes:
    """``N`` episodes in step; every array's first axis is the episode.

    Args:
        problem: what is played on.
        metric: index of each episode's cost, ``int[N]``.
        budget: limit on that cost, ``float[N]``, in the metric's unit.

    Raises:
        UsageError: no group has a second choice.
        InfeasibleError: a budget below the cheapest policy.
    """

    def __init__(self, problem: Problem, metric: Codes, budget: Floats) -> None:
        if int(problem.sizes.max()) < 2:
            raise UsageError(
                "no group has more than one choice: there is nothing to decide",
                where="space",
                expected="at least one group with two choices",
            )
        low = problem.range[metric, 0]
        short = budget * (1 + TOLERANCE) < low
        if short.any():
            first = int(np.flatnonzero(short)[0])
            name = problem.metrics[int(metric[first])]
            raise InfeasibleError(
                f"budget {budget[first]:g} of {name} is below the cheapest policy",
                where="reset",
                expected=f"at least {low[first]:g}",
            )
        self.problem, self.metric, self.budget = problem, metric, budget
        self.count, self.step_index = len(metric), 0
        self.spent = np.zeros(self.count)
        self.codes = np.zeros((self.count, problem.groups), np.int64)
        self._sum = np.array([rule_of(name) == "sum" for name in problem.metrics])[metric]

    @property
    def is_done(self) -> bool:
        """Whether every group has its choice."""
        return self.step_index == self.problem.groups

    def masks(self) -> Bools:
        """Choices that keep the budget within reach, ``bool[N, B]``; at least one each."""
        g = min(self.step_index, self.problem.groups - 1)
        cost = self.problem.costs[self.metric, g]
        later = self.problem.cheapest_later[self.metric, g + 1]
        total: Floats = np.where(
            self._sum[:, None],
            self.spent[:, None] + cost + later[:, None],
            np.maximum(np.maximum(self.spent[:, None], cost), later[:, None]),
        )
        # Sums of the same costs in another order differ in their last bits.
        fits = total <= (self.budget * (1 + 1e-9))[:, None]
        fits &= self.problem.offered[g]
        lost = ~fits.any(axis=1)
        fits[lost, np.argmin(cost[lost], axis=1)] = True
        return fits

    def observe(self) -> npt.NDArray[np.float32]:
        """What an agent sees, ``float32[N, len(fields)]``; see :attr:`Problem.fields`."""
        problem = self.problem
        g = min(self.step_index, problem.groups - 1)
        low, high = problem.range[self.metric].T
        span = np.maximum(high - low, 1e-300)
        later = problem.cheapest_later[self.metric, g]
        committed = np.where(self._sum, self.spent + later, np.maximum(self.spent, later))
        previous = self.codes[:, g - 1] if g else np.zeros(self.count, np.int64)
        most = max(int(problem.sizes[g - 1]) - 1, 1)
        state = [
            (self.budget - low) / span,
            (committed - low) / span,
            (self.budget - committed) / span,
            self._harm() / problem.most_harm,
            previous / most if g else np.zeros(self.count),
            problem.harm[g - 1, previous] if g else np.zeros(self.count),
        ]
        cost = problem.costs[self.metric, g]
        finite = np.where(np.isinf(cost), 0.0, cost)
        share = finite / np.maximum(finite.max(axis=1, keepdims=True), 1e-300)
        chosen = np.eye(len(problem.metrics))[self.metric]
        geometry = np.broadcast_to(problem.geometry[g], (self.count, len(GEOMETRY)))
        harm = np.broadcast_to(problem.harm[g], (self.count, problem.width))
        parts = [geometry, np.stack(state, axis=1), chosen, share, harm]
        seen: npt.NDArray[np.float32] = np.clip(np.concatenate(parts, axis=1), 0.0, 1.0).astype(
            np.float32
        )
        return seen

    def _harm(self) -> Floats:
        """Additive score of the choices taken so far."""
        g = self.step_index
        total: Floats = self.problem.harm[np.arange(g), self.codes[:, :g]].sum(axis=1)
        return total

    def step(self, actions: Codes) -> None:
        """Takes a choice in every episode, ``int[N]``."""
        g = self.step_index
        cost = self.problem.costs[self.metric, g, actions]
        self.codes[:, g] = actions
        self.spent = np.where(self._sum, self.spent + cost, np.maximum(self.spent, cost))
        self.step_index += 1


def geometry_of(space: SearchSpace) -> Floats:
    """Columns of :data:`GEOMETRY` for the first layer of each group, within 0..1."""
    layers = [space.layer_named[group.layers[0]] for group in space.groups]
    rows = np.array([_features(layer) for layer in layers], dtype=np.float64)
    sizes = space.sizes[:, None].astype(np.float64)
    rows = np.concatenate([np.arange(len(layers))[:, None], rows, sizes], axis=1)
    low, high = rows.min(axis=0), rows.max(axis=0)
    # A column that tells nothing is zero.
    return np.where(high > low, (rows - low) / np.maximum(high - low, 1e-300), 0.0)


def _features(layer: LayerSpec) -> list[float]:
    is_linear = layer.op == "linear"
    return [
        float(np.log1p(layer.weight_count)),
        float(np.log1p(layer.macs)),
        float(np.log1p(np.prod(layer.input_shape))),
        float(np.log1p(np.prod(layer.output_shape))),
        1.0 if is_linear else float(layer.weight_shape[-1]),
        float(layer.stride[0]) if layer.stride else 0.0,
        float(is_linear),
        float(layer.is_depthwise),
    ]
