"""ZeroQ's sensitivity: the KL score on inputs distilled from the model's batch norms.

Cai et al., arXiv 2001.00281, section 3.2: ``Omega_i(k)`` is the mean KL divergence of the output
when layer ``i`` alone takes choice ``k``, on distilled inputs. It reads no data.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from quant.sensitivity.base import Progress, ScoreContext, ScoreTable
from quant.sensitivity.divergence import SingleLayer
from quant.zero_shot.distill import distill


@dataclass(frozen=True)
class Distilled:
    """Mean KL divergence of quantizing one group alone, on distilled inputs.

    Attributes:
        samples: inputs to distil, at least 1.
    """

    kind: ClassVar[str] = "zeroq"
    needs_data: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = True
    samples: int = 50

    def passes(self, choices: Sequence[int]) -> float:
        """See :meth:`quant.sensitivity.base.Score.passes`; distilling is not counted."""
        return 1.0 + sum(choices)

    def compute(self, ctx: ScoreContext, progress: Progress | None = None) -> ScoreTable:
        """See :meth:`quant.sensitivity.base.Score.compute`.

        Raises:
            DataError: the model has no batch norms, or answers NaN under a choice.
        """
        start = time.perf_counter()
        shape = tuple(ctx.inputs.shape[1:])
        inputs = distill(ctx.quantized.source, shape, self.samples, ctx.generator)
        distilled = time.perf_counter() - start
        table = SingleLayer("kl").compute(replace(ctx, inputs=inputs, labels=None), progress)
        note = f"{self.samples} inputs distilled in {distilled:.1f} s"
        seconds = time.perf_counter() - start
        return replace(table, kind=self.kind, seconds=seconds, notes=(*table.notes, note))
