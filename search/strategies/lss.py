"""Front-first search with the logit-superposition surrogate.

1. The exact front of the additive score, all budgets at once.
2. Local search around it on the surrogate, which knows how layers interact.
3. True evaluations: the ends of the refined front and its middles, then always the policy with
   the largest expected hypervolume gain.
4. What the surrogate got wrong is learnt from every evaluation, and the neighbours of the true
   front join the candidates. The surrogate's own front always stays among them.

The surrogate's KL is the prediction and its cross-entropy a second opinion with a learnt weight:
a front optimised on the cross-entropy of a few hundred calibration samples finds their noise,
while the KL cannot fall below the float model.

The constants were chosen on the convolutional nets of :mod:`search.tabulated`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from quant.errors import UsageError
from quant.sensitivity.base import Surrogate
from search.records import Result
from search.solvers.gain import expected_gain
from search.solvers.order import bisection_order
from search.solvers.refine import Found, Landscape, neighbours, refine
from search.solvers.residual import Points, Prior, places, posterior
from search.strategies.base import SearchContext, Strategy
from search.strategies.tables import cost_table, starts
from spaces.constraints import reachable
from spaces.policy import Policy

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FLOOR = {"ce": 0.0, "kl": -0.01, "accuracy": -1.01}
"""Losses are compared as ``log(loss - floor)``: twice the loss is as bad wherever it happens."""
LEAST = 1e-4
SEARCHED = 32
"""Points of each refined front whose neighbours become candidates from the start."""
MARGIN = 0.05


@dataclass
class Pool:
    """Candidates, in the order they were found.

    Attributes:
        codes: ``int[P, groups]``.
        cost: ``float[P, metrics]``.
        predicted: log-loss by the surrogate, ``float[P]``.
        opinion: by how much its second opinion differs, ``float[P]``.
        row: position of codes that were ever looked at; -1 for infeasible ones.
    """

    codes: Codes
    cost: Floats
    predicted: Floats
    opinion: Floats
    row: dict[bytes, int] = field(default_factory=dict)

    @staticmethod
    def empty(groups: int, metrics: int) -> Pool:
        """A pool without candidates."""
        none = np.empty(0)
        return Pool(np.empty((0, groups), np.int64), np.empty((0, metrics)), none, none)

    def unseen(self, codes: Codes) -> Codes:
        """Those of ``codes[P, groups]`` that were never looked at, each once."""
        fresh = [row for row in np.unique(codes, axis=0) if row.tobytes() not in self.row]
        self.row.update((row.tobytes(), -1) for row in fresh)
        return np.array(fresh, dtype=np.int64).reshape(-1, self.codes.shape[1])

    def add(self, codes: Codes, cost: Floats, predicted: Floats, opinion: Floats) -> None:
        """Appends candidates."""
        places = range(len(self.codes), len(self.codes) + len(codes))
        self.row.update((row.tobytes(), place) for row, place in zip(codes, places, strict=True))
        self.codes = np.concatenate([self.codes, codes])
        self.cost = np.concatenate([self.cost, cost])
        self.predicted = np.concatenate([self.predicted, predicted])
        self.opinion = np.concatenate([self.opinion, opinion])


class LssStrategy(Strategy):
    """Expected hypervolume gain over a surrogate of whole policies.

    Args:
        score: kind of a score table that carries a surrogate.
        first: policies of the refined front evaluated before anything is learnt.
        rounds: rounds of local search.
    """

    def __init__(self, score: str = "lss", first: int = 4, rounds: int = 3) -> None:
        self._score, self._first, self._rounds = score, first, rounds
        self._prior = Prior()

    def needs(self) -> frozenset[str]:
        """See :class:`Strategy`."""
        return frozenset({self._score})

    def start(self, context: SearchContext) -> None:
        """See :class:`Strategy`.

        Raises:
            UsageError: the score predicts no whole policies.
            InfeasibleError: no policy satisfies the constraints.
        """
        super().start(context)
        surrogate = context.scores[self._score].surrogate
        if surrogate is None:
            raise UsageError(
                f"the score '{self._score}' predicts no whole policies",
                where="strategy.lss.score",
                expected="a score with a surrogate",
                fix="score: lss",
            )
        self._surrogate: Surrogate = surrogate
        self._tables = [cost_table(context, metric) for metric in context.cost_metrics]
        begin = starts(context, self._score)
        self._float_loss = self._loss_of_float(np.concatenate(begin))
        self._pool = Pool.empty(len(context.space.groups), len(context.cost_metrics))
        self._rows: list[int] = []
        self._losses: list[float] = []
        fronts = [self._refined(axis, points) for axis, points in enumerate(begin)]
        self._worst = max(float(front.loss.max()) for front in fronts)
        self._opening = self._open(fronts)

    def ask(self, n: int) -> list[Policy]:
        """See :class:`Strategy`."""
        self._asked: list[int] = []
        if self._opening:
            self._asked, self._opening = self._opening[:n], self._opening[n:]
        else:
            self._asked = self._most_promising(n)
        return [self.context.space.policy(self._pool.codes[row]) for row in self._asked]

    def tell(self, results: Sequence[Result]) -> None:
        """See :class:`Strategy`."""
        for row, result in zip(self._asked, results, strict=True):
            self._rows.append(row)
            loss = self.context.loss(result)
            self._losses.append(float("nan") if np.isnan(loss) else float(self._log(loss)))
            if self._on_front(len(self._rows) - 1):
                self._add(neighbours(self._pool.codes[row], self.context.space.sizes))

    def _loss_of_float(self, codes: Codes) -> float:
        """The float model's cross-entropy, told from the policy most like it."""
        if self.context.quality != "ce":
            return 0.0
        found = self._surrogate.predict(codes)
        nearest = int(np.argmin(found["kl"]))
        return float(max(found["ce"][nearest] - found["kl"][nearest], LEAST))

    def _predict(self, codes: Codes) -> tuple[Floats, Floats]:
        """Predicted log-loss, and by how much the second opinion differs, ``float[P]`` each."""
        found = self._surrogate.predict(codes)
        quality = self.context.quality
        if quality == "accuracy":
            return self._log(-found["accuracy"]), np.zeros(len(codes))
        predicted = self._log(self._float_loss + found["kl"])
        if quality == "kl":
            return predicted, np.zeros(len(codes))
        return predicted, self._log(found["ce"]) - predicted

    def _log(self, loss: Floats | float) -> Floats:
        floor = FLOOR[self.context.quality]
        return np.asarray(np.log(np.maximum(np.asarray(loss) - floor, LEAST)))

    def _refined(self, axis: int, points: Codes) -> Found:
        context = self.context
        metric = context.cost_metrics[axis]
        landscape = Landscape(
            context.space.sizes,
            lambda codes: self._predict(codes)[0],
            lambda codes: context.costs.costs(codes)[metric],
            context.feasible,
        )
        front = refine(points, landscape, rounds=self._rounds)
        self._add(points)
        self._add(front.codes)
        for index in bisection_order(len(front.codes))[:SEARCHED]:
            self._add(neighbours(front.codes[index], context.space.sizes))
        return front

    def _open(self, fronts: Sequence[Found]) -> list[int]:
        """Rows of the first policies, fronts in turn."""
        orders = [iter(bisection_order(len(front.codes))) for front in fronts]
        rows: dict[int, None] = {}
        for turn in range(self._first):
            index = next(orders[turn % len(fronts)], None)
            if index is not None:
                codes = fronts[turn % len(fronts)].codes[index]
                rows[self._pool.row[codes.tobytes()]] = None
        return list(rows)

    def _add(self, codes: Codes) -> None:
        """Puts feasible policies into the pool, each once."""
        new = self._pool.unseen(codes)
        new = new[self.context.feasible(new)] if len(new) else new
        if len(new):
            costs = self.context.costs.costs(new)
            cost = np.stack([costs[name] for name in self.context.cost_metrics], axis=1)
            self._pool.add(new, cost, *self._predict(new))

    def _most_promising(self, n: int) -> list[int]:
        """Rows of largest expected gain; each is taken for what it is expected to be."""
        seen = set(self._rows)
        rows = np.array([row for row in range(len(self._pool.codes)) if row not in seen], int)
        if not len(rows):
            return []
        mean, deviation = self._posterior(rows)
        told = ~np.isnan(self._losses)
        losses = list(np.asarray(self._losses)[told])
        basis = list(np.asarray(self._rows, dtype=int)[told])
        chosen: list[int] = []
        for _ in range(min(n, len(rows))):
            gain = self._gain(rows, mean, deviation, basis, losses)
            gain[np.isin(rows, chosen)] = -1.0
            best = int(np.argmax(gain))
            chosen.append(int(rows[best]))
            basis.append(chosen[-1])
            losses.append(float(mean[best]))
        return chosen

    def _posterior(self, rows: Codes) -> tuple[Floats, Floats]:
        """Mean and deviation of the log-loss of pool rows."""
        told = ~np.isnan(self._losses)
        known = np.asarray(self._rows, dtype=int)[told]
        residual = np.asarray(self._losses)[told] - self._pool.predicted[known]
        mean, deviation = posterior(self._points(known), residual, self._points(rows), self._prior)
        return self._pool.predicted[rows] + mean, deviation

    def _points(self, rows: Codes) -> Points:
        codes = self._pool.codes[rows]
        return Points(places(codes, self._tables[0]), self._pool.opinion[rows])

    def _gain(
        self, rows: Codes, mean: Floats, deviation: Floats, basis: list[int], losses: list[float]
    ) -> Floats:
        """Expected gain summed over metrics, each in units of its reachable range."""
        total = np.zeros(len(rows))
        sizes, names = self.context.space.sizes, self.context.cost_metrics
        for axis, (metric, table) in enumerate(zip(names, self._tables, strict=True)):
            low, high = reachable(table, sizes, metric)
            cost = (self._pool.cost[:, axis] - low) / max(high - low, LEAST * high)
            seen = np.stack([np.asarray(losses), cost[basis]], axis=1)
            total += expected_gain(mean, deviation, cost[rows], seen, (self._worst, 1 + MARGIN))
        return total

    def _on_front(self, index: int) -> bool:
        """Whether no earlier evaluation beats this one in loss and one of the costs."""
        losses = np.asarray(self._losses)
        costs = self._pool.cost[self._rows]
        if np.isnan(losses[index]):
            return False
        beaten = (losses < losses[index])[:, None] & (costs <= costs[index])
        return bool((~beaten.any(axis=0)).any())
