"""Candidates of a strategy that predicts whole policies: which of them is worth an evaluation.

A surrogate predicts the loss, a Gaussian process learns from every evaluation what it got wrong,
and the next policy is the one with the largest expected hypervolume gain. Where candidates come
from (an exact front, an agent's episodes) is the strategy's own affair.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from quant.errors import UsageError
from quant.sensitivity.base import Surrogate
from search.records import Result
from search.solvers.gain import expected_gain
from search.solvers.residual import Points, Prior, places, posterior
from search.strategies.base import SearchContext
from search.strategies.tables import cost_table, starts
from spaces.constraints import reachable

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FLOOR = {"ce": 0.0, "kl": -0.01, "accuracy": -1.01}
"""Losses are compared as ``log(loss - floor)``: twice the loss is as bad wherever it happens."""
LEAST = 1e-4
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


def surrogate_of(context: SearchContext, kind: str, strategy: str) -> Surrogate:
    """The surrogate a score carries.

    Raises:
        UsageError: the score predicts no whole policies.
    """
    surrogate = context.scores[kind].surrogate
    if surrogate is None:
        raise UsageError(
            f"the score '{kind}' predicts no whole policies",
            where=f"strategy.{strategy}.score",
            expected="a score with a surrogate",
            fix="score: lss",
        )
    return surrogate


class Candidates:
    """Predictions, evaluations and what to evaluate next.

    Args:
        context: of the trial.
        surrogate: predicts policies.
        near: policies ``int[P, groups]``; the one most like the float model tells its loss.

    Attributes:
        pool: all candidates.
        lookups: policies the surrogate was asked about.
        worst: log-loss beyond which nothing is gained; set it before :meth:`promising`.
    """

    def __init__(self, context: SearchContext, surrogate: Surrogate, near: Codes) -> None:
        self._context, self._surrogate, self._prior = context, surrogate, Prior()
        self._tables = [cost_table(context, metric) for metric in context.cost_metrics]
        self._float_loss = self._loss_of_float(near)
        self.pool = Pool.empty(len(context.space.groups), len(context.cost_metrics))
        self.worst, self.lookups = np.inf, 0
        self._rows: list[int] = []
        self._losses: list[float] = []

    def predict(self, codes: Codes) -> tuple[Floats, Floats]:
        """Predicted log-loss, and by how much the second opinion differs, ``float[P]`` each."""
        found = self._surrogate.predict(codes)
        self.lookups += len(codes)
        quality = self._context.quality
        if quality == "accuracy":
            return self.log(-found["accuracy"]), np.zeros(len(codes))
        predicted = self.log(self._float_loss + found["kl"])
        if quality == "kl":
            return predicted, np.zeros(len(codes))
        return predicted, self.log(found["ce"]) - predicted

    def log(self, loss: Floats | float) -> Floats:
        """Log-loss, see :data:`FLOOR`."""
        floor = FLOOR[self._context.quality]
        return np.asarray(np.log(np.maximum(np.asarray(loss) - floor, LEAST)))

    def add(self, codes: Codes) -> None:
        """Puts feasible policies into the pool, each once."""
        new = self.pool.unseen(codes)
        new = new[self._context.feasible(new)] if len(new) else new
        if len(new):
            costs = self._context.costs.costs(new)
            cost = np.stack([costs[name] for name in self._context.cost_metrics], axis=1)
            self.pool.add(new, cost, *self.predict(new))

    def tell(self, row: int, result: Result) -> bool:
        """Takes the evaluation of a pool row; whether it is on the true front so far."""
        self._rows.append(row)
        loss = self._context.loss(result)
        self._losses.append(float("nan") if np.isnan(loss) else float(self.log(loss)))
        return self._on_front(len(self._rows) - 1)

    def is_told(self, row: int) -> bool:
        """Whether a pool row was evaluated."""
        return row in self._rows

    def expected(self, codes: Codes) -> Floats:
        """Log-loss of any policies, corrected by what was learnt, ``float[P]``."""
        predicted, opinion = self.predict(codes)
        return predicted + self._residual(Points(places(codes, self._tables[0]), opinion))[0]

    def promising(self, n: int) -> list[int]:
        """Rows of largest expected gain; each is taken for what it is expected to be."""
        seen = set(self._rows)
        rows = np.array([row for row in range(len(self.pool.codes)) if row not in seen], int)
        if not len(rows):
            return []
        residual, deviation = self._residual(self._points(rows))
        mean = self.pool.predicted[rows] + residual
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

    def _loss_of_float(self, codes: Codes) -> float:
        """The float model's cross-entropy, told from the policy most like it."""
        if self._context.quality != "ce":
            return 0.0
        found = self._surrogate.predict(codes)
        nearest = int(np.argmin(found["kl"]))
        return float(max(found["ce"][nearest] - found["kl"][nearest], LEAST))

    def _residual(self, points: Points) -> tuple[Floats, Floats]:
        """Mean and deviation of what the prediction lacks."""
        told = ~np.isnan(self._losses)
        known = np.asarray(self._rows, dtype=int)[told]
        residual = np.asarray(self._losses)[told] - self.pool.predicted[known]
        return posterior(self._points(known), residual, points, self._prior)

    def _points(self, rows: Codes) -> Points:
        codes = self.pool.codes[rows]
        return Points(places(codes, self._tables[0]), self.pool.opinion[rows])

    def _gain(
        self, rows: Codes, mean: Floats, deviation: Floats, basis: list[int], losses: list[float]
    ) -> Floats:
        """Expected gain summed over metrics, each in units of its reachable range."""
        total = np.zeros(len(rows))
        sizes, names = self._context.space.sizes, self._context.cost_metrics
        for axis, (metric, table) in enumerate(zip(names, self._tables, strict=True)):
            low, high = reachable(table, sizes, metric)
            cost = (self.pool.cost[:, axis] - low) / max(high - low, LEAST * high)
            seen = np.stack([np.asarray(losses), cost[basis]], axis=1)
            total += expected_gain(mean, deviation, cost[rows], seen, (self.worst, 1 + MARGIN))
        return total

    def _on_front(self, index: int) -> bool:
        """Whether no earlier evaluation beats this one in loss and one of the costs."""
        losses = np.asarray(self._losses)
        costs = self.pool.cost[self._rows]
        if np.isnan(losses[index]):
            return False
        beaten = (losses < losses[index])[:, None] & (costs <= costs[index])
        return bool((~beaten.any(axis=0)).any())


def opened(context: SearchContext, kind: str, strategy: str) -> tuple[Candidates, list[Codes]]:
    """Candidates of a score's surrogate, and the front of the score for each cost metric.

    Args:
        context: of the trial.
        kind: score whose table carries a surrogate.
        strategy: for messages.

    Raises:
        UsageError: the score predicts no whole policies.
        InfeasibleError: no policy satisfies the constraints.
    """
    surrogate = surrogate_of(context, kind, strategy)
    begin = starts(context, kind)
    return Candidates(context, surrogate, np.concatenate(begin)), begin
