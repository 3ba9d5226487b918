"""The cost expected under shares of choices, terms between layers included.

A cost model of sums and of terms between two layers is read off its own answers: with all groups
at a base choice, changing one group gives its own part, changing two gives what is between them.
Then ``E[cost] = base + sum_g p_g u_g + sum_(g,h) p_g T_gh p_h``, exact for such models. Costs
that are maxima over groups become smooth maxima of expectations.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hw_profiles.cost import CostModel
from spaces.constraints import rule_of
from spaces.space import SearchSpace

SHARP = 50.0
TINY = 1e-9
"""Terms between groups below this share of the largest cost are none."""


class ExpectedCost:
    """Expected cost of shares ``[G, B]`` by code, differentiable.

    Args:
        costs: of the space.
        space: its groups.
        metric: which cost.
    """

    def __init__(self, costs: CostModel, space: SearchSpace, metric: str) -> None:
        width = int(space.sizes.max())
        self.table = torch.from_numpy(np.nan_to_num(costs.table(metric)[:, :width])).float()
        self.is_max = rule_of(metric) == "max"
        self.base = 0.0
        self.pairs: list[tuple[int, int, Tensor]] = []
        if self.is_max:
            return
        base = np.zeros(len(space.groups), np.int64)
        self.base = float(_cost(costs, metric, base[None, :])[0])
        own = np.zeros((len(base), width))
        for group, size in enumerate(space.sizes):
            rows = np.repeat(base[None, :], size, axis=0)
            rows[:, group] = np.arange(size)
            own[group, :size] = _cost(costs, metric, rows) - self.base
        self.table = torch.from_numpy(own).float()
        self._read_pairs(costs, space, metric, base, own)

    def __call__(self, shares: Tensor) -> Tensor:
        """In the metric's unit."""
        each = (shares[:, : self.table.shape[1]] * self.table).sum(1)
        if self.is_max:
            scale = float(each.detach().max()) or 1.0
            return scale * torch.logsumexp(SHARP * each / scale, 0) / SHARP
        total = each.sum() + self.base
        width = self.table.shape[1]
        for first, second, between in self.pairs:
            total = total + shares[first, :width] @ between @ shares[second, :width]
        return total

    def _read_pairs(
        self,
        costs: CostModel,
        space: SearchSpace,
        metric: str,
        base: npt.NDArray[np.int64],
        own: npt.NDArray[np.float64],
    ) -> None:
        least = TINY * max(abs(self.base), float(np.abs(own).max()))
        for first, second in combinations(range(len(base)), 2):
            sizes = int(space.sizes[first]), int(space.sizes[second])
            grid = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), -1).reshape(-1, 2)
            rows = np.repeat(base[None, :], len(grid), axis=0)
            rows[:, [first, second]] = grid
            joint = _cost(costs, metric, rows) - self.base
            between = joint - own[first, grid[:, 0]] - own[second, grid[:, 1]]
            if np.abs(between).max() > least:
                table = np.zeros((own.shape[1], own.shape[1]))
                table[grid[:, 0], grid[:, 1]] = between
                self.pairs.append((first, second, torch.from_numpy(table).float()))


def _cost(costs: CostModel, metric: str, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = costs.costs(codes)[metric]
    return found
