"""Noise-to-signal ratio of weights and inputs: a score that costs no forward pass.

To first order the output of a layer ``y = W x`` carries the relative noise
``|dW|^2 / |W|^2 + |dx|^2 / |x|^2`` when both errors are independent; its inverse is the signal
to quantization noise ratio (Lin et al., arXiv 1511.06393).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from quant.model import LayerChoice, QuantizedModel
from quant.sensitivity.base import Progress, ScoreContext, ScoreTable, padded


@dataclass(frozen=True)
class NoiseToSignal:
    """Sum over the layers of a group of 1 / SQNR of the weight and of the input.

    Weights need no data; inputs use the statistics of calibration.

    Attributes:
        activations: whether the noise of inputs is added.
    """

    kind: ClassVar[str] = "sqnr"
    needs_data: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = False
    activations: bool = True

    def passes(self, choices: Sequence[int]) -> float:
        """See :meth:`quant.sensitivity.base.Score.passes`."""
        return 0.0

    def compute(self, ctx: ScoreContext, progress: Progress | None = None) -> ScoreTable:
        """See :meth:`quant.sensitivity.base.Score.compute`."""
        start = time.perf_counter()
        rows = []
        for index, (group, choices) in enumerate(zip(ctx.groups, ctx.choices, strict=True)):
            rows.append([self._noise(ctx.quantized, group, choice) for choice in choices])
            if progress:
                progress(index + 1, len(ctx.groups))
        value = padded(rows)
        # NaN padding stays NaN; everything else is exact.
        return ScoreTable(self.kind, value, value * 0, time.perf_counter() - start, 0.0)

    def _noise(self, model: QuantizedModel, group: tuple[str, ...], choice: LayerChoice) -> float:
        total = 0.0
        for layer in group:
            error = model.weight_error(layer, choice.weight, choice.method)
            power = float(model.original(layer).detach().double().square().sum())
            total += _ratio(error, power)
            if self.activations:
                error = model.input_error(layer, choice.activation)
                total += _ratio(error, model.input_power(layer))
        return total


def _ratio(noise: float, signal: float) -> float:
    """Noise per signal; 0 when there is no noise, even without a signal."""
    return float(np.divide(noise, signal)) if noise else 0.0
