"""What a strategy is.

A strategy proposes policies and learns from results. The study loop drives it::

    strategy = Strategy(**options)          # options from conf/strategy/<name>.yaml
    strategy.check(space)                   # refuses before time is spent
    strategy.needs()                        # score kinds, computed once for all trials
    strategy.start(context)                 # space, costs, scores, a seeded generator
    while budget is left:
        policies = strategy.ask(n)          # at most n; empty means done
        strategy.tell(results)              # one result per asked policy, in order

The loop owns the budget, removes duplicates (a known policy is answered from memory and costs
nothing) and writes the journal. A strategy must be a deterministic function of its options,
its context and what it was told: a resumed trial is re-asked from the start and answered from
the journal until it reaches new ground.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hw_profiles.cost import CostModel
from quant.sensitivity.base import ScoreTable
from search.objectives import objective
from search.records import Result
from spaces.constraints import Constraint, feasible_mask
from spaces.policy import Policy
from spaces.space import SearchSpace

if TYPE_CHECKING:
    from torch import Tensor

    from quant.model import QuantizedModel

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trainable:
    """The model itself, for strategies that learn through it.

    Attributes:
        quantized: calibrated; a strategy takes off what it put on.
        inputs: of the calibration split, ``[n, ...]``.
        labels: class indices ``[n]``.
        evaluation_samples: samples of one true evaluation; passes are counted in these.
    """

    quantized: QuantizedModel
    inputs: Tensor
    labels: Tensor
    evaluation_samples: int


@dataclass(frozen=True)
class Work:
    """What a strategy spent besides true evaluations.

    Attributes:
        surrogate: policies predicted.
        forward: evaluation-equivalents of passes through the model; a backward counts 2.
    """

    surrogate: int = 0
    forward: float = 0.0


@dataclass(frozen=True)
class SearchContext:
    """Everything a strategy may look at.

    Attributes:
        space: the resolved search space.
        costs: cost model of the target device.
        scores: score tables by kind, at least those the strategy needs.
        quality: name of the quality objective (``"ce"``, ``"kl"``, ``"accuracy"``).
        cost_metrics: costs to trade quality against, at least one.
        constraints: hard limits on costs.
        rng: the trial's own generator.
        evaluations: how many true evaluations the budget allows.
        trainable: gives the model, None where there is none.
    """

    space: SearchSpace
    costs: CostModel
    scores: Mapping[str, ScoreTable]
    quality: str
    cost_metrics: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    rng: np.random.Generator
    evaluations: int
    trainable: Callable[[], Trainable] | None = None

    def feasible(self, codes: Codes) -> npt.NDArray[np.bool_]:
        """Which of ``int[P, groups]`` satisfy every constraint, ``bool[P]``."""
        return feasible_mask(self.constraints, self.costs.costs(np.atleast_2d(codes)))

    def loss(self, result: Result) -> float:
        """The quality of a result as something to minimise; NaN for a failed one."""
        return objective(self.quality).to_min(float(getattr(result, self.quality)))


class Strategy(ABC):
    """Base of all strategies; see the module docstring for the protocol."""

    context: SearchContext
    needs_model = False
    """Whether it learns through the model itself, see :class:`Trainable`."""

    def work(self) -> Work:
        """What was spent so far; counted with the trial's evaluations, not against them."""
        return Work()

    def needs(self) -> frozenset[str]:
        """Score kinds this strategy reads from its context."""
        return frozenset()

    def check(self, space: SearchSpace) -> None:  # noqa: B027 - optional
        """Refuses a space it cannot search, before any time is spent.

        Raises:
            UsageError: says why and what to do instead.
        """

    def start(self, context: SearchContext) -> None:
        """Receives the context; called once, before the first ask."""
        self.context = context

    @abstractmethod
    def ask(self, n: int) -> list[Policy]:
        """Proposes at most ``n`` policies (n >= 1); an empty list means there are no more."""

    @abstractmethod
    def tell(self, results: Sequence[Result]) -> None:
        """Takes the results of the policies asked last, in the same order."""

    def state_dict(self) -> dict[str, Any]:
        """JSON-able record of what was learned, kept beside the journal; empty for most."""
        return {}


@dataclass
class Queue:
    """Codes waiting to be asked, each once; the common half of list-like strategies."""

    space: SearchSpace
    waiting: list[tuple[int, ...]] = field(default_factory=list)
    known: set[tuple[int, ...]] = field(default_factory=set)

    def push(self, codes: Sequence[int] | Codes) -> bool:
        """Adds codes unless they were added before; returns whether they are new."""
        key = tuple(np.asarray(codes).tolist())
        if key in self.known:
            return False
        self.known.add(key)
        self.waiting.append(key)
        return True

    def pop(self, n: int) -> list[Policy]:
        """Takes the first ``n`` as policies."""
        taken, self.waiting = self.waiting[:n], self.waiting[n:]
        return [self.space.policy(codes) for codes in taken]
