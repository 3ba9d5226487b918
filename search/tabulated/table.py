"""A tabulated space: every policy's quality, what it costs, and the scores strategies ask for.

A table is one ``.npz`` without pickled objects. Policies are in C order of their codes (the last
group changes fastest). Its arrays:

======================== =================== ==============================================
name                     shape               content
======================== =================== ==============================================
``space``                text                ``layers.json`` of the space
``cost_metric``          text                name of the cost with its unit
``cost``                 [groups, choices]   additive cost, NaN-padded
``ce``                   [P]                 cross-entropy on search-validation, nats
``kl``, ``accuracy``     [P]                 optional
``float_ce``             []                  cross-entropy of the float model
``n``                    []                  optional: number of samples
``base``                 [n, K]              optional: float logits on calibration data
``shifts``               [groups, choices,   optional: change of the logits when one group
                         n, K]               alone takes a choice
``labels``               [n]                 optional: classes of those samples
``score.KIND``           [groups, choices]   optional: another score, ``score.KIND.error`` its
                                             standard error, ``score.KIND.curvature``
                                             ([groups]) curvature by weights,
                                             ``score.KIND.form`` ([groups, choices, groups,
                                             choices]) pair effects
``work.KIND``            []                  evaluation-equivalents a score took
======================== =================== ==============================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_profiles.cost import CostModel
from quant.errors import DataError
from search.fronts import MARGIN, cost_range
from search.pareto import hypervolume
from search.records import Result
from spaces.policy import Policy
from spaces.space import SearchSpace

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
REQUIRED = ("space", "cost_metric", "cost", "ce", "float_ce")
WORST = 1.5
"""Loss of the reference point in units of the float model's; chosen on the convolutional nets so
that random search scores about .7 after 40 evaluations."""


@dataclass(frozen=True)
class TableCosts:
    """The cost model of a table: one additive metric."""

    metric: str
    values: Floats

    @property
    def metrics(self) -> tuple[str, ...]:
        """See :class:`hw_profiles.cost.CostModel`."""
        return (self.metric,)

    def table(self, metric: str) -> Floats:
        """See :class:`hw_profiles.cost.CostModel`."""
        return self.values

    def costs(self, codes: Codes) -> dict[str, Floats]:
        """See :class:`hw_profiles.cost.CostModel`."""
        return {self.metric: self.values[np.arange(len(self.values)), codes].sum(axis=1)}

    def provenance(self) -> Mapping[str, Any]:
        """See :class:`hw_profiles.cost.CostModel`."""
        return {self.metric: {"provenance": "computed", "detail": "tabulated"}}


@dataclass(frozen=True, eq=False)
class Table:
    """A space of which every policy is known; also its evaluator.

    Attributes:
        name: of the table.
        space: what may be chosen.
        costs: one additive cost.
        ce, kl, accuracy: ``float[P]``; NaN where the table does not tell.
        float_ce: cross-entropy of the float model, nats.
        n: samples of search-validation.
        arrays: the arrays scores are made of, see the module docstring.
    """

    name: str
    space: SearchSpace
    costs: TableCosts
    ce: Floats
    kl: Floats
    accuracy: Floats
    float_ce: float
    n: int
    arrays: Mapping[str, npt.NDArray[Any]]

    @staticmethod
    def load(path: Path) -> Table:
        """Reads a table.

        Raises:
            DataError: no such file, an array is missing, or a quality is not given for every
                policy.
        """
        arrays = _arrays(path)
        space = SearchSpace.from_json(json.loads(str(arrays["space"])))
        policies = space.cardinality
        missing = np.full(policies, np.nan)
        qualities = {
            name: np.asarray(arrays.get(name, missing), dtype=np.float64)
            for name in ("ce", "kl", "accuracy")
        }
        for name, values in qualities.items():
            if values.shape != (policies,):
                raise DataError(
                    f"'{name}' of table {path.name} has shape {values.shape}",
                    expected=f"({policies},), one value per policy of space '{space.name}'",
                )
        costs = TableCosts(str(arrays["cost_metric"]), _cost(arrays["cost"], space, path))
        return Table(
            path.stem,
            space,
            costs,
            **qualities,
            float_ce=float(arrays["float_ce"]),
            n=int(arrays.get("n", 1)),
            arrays=arrays,
        )

    def index(self, codes: Codes) -> Codes:
        """Positions of policies ``int[P, groups]`` in the table."""
        return np.asarray(np.ravel_multi_index(tuple(np.atleast_2d(codes).T), self.space.sizes))

    @cached_property
    def every(self) -> Codes:
        """All policies in the table's order, ``int[P, groups]``."""
        return np.stack(np.unravel_index(np.arange(len(self.ce)), self.space.sizes), axis=1)

    @cached_property
    def points(self) -> Floats:
        """``(ce, cost)`` of every policy, ``float[P, 2]``."""
        return np.stack([self.ce, self.costs.costs(self.every)[self.costs.metric]], axis=1)

    @cached_property
    def reference(self) -> Floats:
        """``(ce, cost)``, see :func:`reference_point`."""
        return reference_point(self.space, self.costs, self.costs.metric, self.float_ce)

    @cached_property
    def optimum(self) -> float:
        """Hypervolume of the true front."""
        return hypervolume(self.points, self.reference)

    def share(self, positions: Sequence[int]) -> float:
        """Hypervolume of the policies at ``positions`` over that of the true front, 0..1."""
        return hypervolume(self.points[list(positions)], self.reference) / self.optimum

    def key(self, policy: Policy, split: str = "search") -> str:
        """Identity of an evaluation; see :class:`search.trial.Judge`."""
        return hashlib.sha256(f"{self.name}|{split}|{policy.digest}".encode()).hexdigest()[:24]

    def evaluate(self, policies: Sequence[Policy], split: str = "search") -> list[Result]:
        """Looks each policy up; see :class:`search.trial.Judge`."""
        return [self._result(policy, split) for policy in policies]

    def _result(self, policy: Policy, split: str) -> Result:
        at = int(self.index(self.space.codes(policy))[0])
        quality = (float(self.ce[at]), float(self.kl[at]), float(self.accuracy[at]))
        return Result(self.key(policy, split), policy.policy_id, *quality, self.n, 0.0)


def reference_point(space: SearchSpace, costs: CostModel, metric: str, float_ce: float) -> Floats:
    """``(ce, cost)`` beyond which a policy counts for nothing when strategies are compared.

    The loss is :data:`WORST` times the float model's: against the loss of guessing, as runs are
    reported, every strategy with a score comes to about .99 and none can be told from another.
    """
    low, high = cost_range(space, costs, metric)
    return np.array([WORST * float_ce, high + MARGIN * (high - low)])


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError) as cause:
        raise DataError(
            f"table {path} cannot be read: {cause}",
            where="table",
            expected="an .npz file without pickled objects",
        ) from cause
    lacking = [name for name in REQUIRED if name not in arrays]
    if lacking:
        raise DataError(
            f"table {path.name} lacks {', '.join(lacking)}",
            where="table",
            expected=f"the arrays {', '.join(REQUIRED)}",
            fix="see docs/strategies.md for the layout of a table",
        )
    return arrays


def _cost(values: npt.NDArray[Any], space: SearchSpace, path: Path) -> Floats:
    cost = np.asarray(values, dtype=np.float64)
    groups, width = len(space.groups), int(space.sizes.max())
    if cost.ndim != 2 or len(cost) != groups or cost.shape[1] < width:
        raise DataError(
            f"'cost' of table {path.name} has shape {cost.shape}",
            expected=f"({groups}, {width} or more), groups x choices",
        )
    offered = np.arange(cost.shape[1])[None, :] < space.sizes[:, None]
    if not np.isfinite(cost[offered]).all():
        raise DataError(f"'cost' of table {path.name} is not finite for every offered choice")
    return cost
