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
        float_ = self.base - self.base.max(1, keepdims=True)
        float_ = float_ - np.log(np.exp(float_).sum(1, keepdims=True))
        out = []
        for i in range(0, len(codes), 256):
            c = codes[i : i + 256]
            z = np.repeat(self.base[None], len(c), 0)
            for g in range(len(self.shifts)):
                z += self.shifts[g, c[:, g]]
            z -= z.max(2, keepdims=True)
            e = np.exp(z)
            lp = z - np.log(e.sum(2, keepdims=True))
            rows = np.arange(len(self.base))
            out.append(
                np.stack(
                    [
                        (np.exp(float_) * (float_ - lp)).sum(2).mean(1),
                        -lp[:, rows, self.labels].mean(1),
                        (z.argmax(2) == self.labels).mean(1),
                    ]
                )
            )
        return dict(zip(("kl", "ce", "accuracy"), np.concatenate(out, 1).astype(float)))
