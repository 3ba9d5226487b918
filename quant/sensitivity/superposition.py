"""Logit superposition: a whole policy predicted by the sum of single-layer logit shifts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Superposition:
    base: npt.NDArray[Any]
    shifts: npt.NDArray[Any]
    labels: npt.NDArray[Any] | None = None

    def predict(self, codes: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
        groups = np.arange(len(self.shifts))
        out = []
        float_ = self.base - self.base.max(1, keepdims=True)
        float_ = float_ - np.log(np.exp(float_).sum(1, keepdims=True))
        rows = np.arange(len(self.base))
        for c in np.atleast_2d(codes):
            z = self.base + self.shifts[groups, c].sum(0)
            z = z - z.max(1, keepdims=True)
            lp = z - np.log(np.exp(z).sum(1, keepdims=True))
            out.append((
                (np.exp(float_) * (float_ - lp)).sum(1).mean(),
                -lp[rows, self.labels].mean(),
                (z.argmax(1) == self.labels).mean(),
            ))
        return dict(zip(("kl", "ce", "accuracy"), np.array(out).T))
