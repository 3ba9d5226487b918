"""What each repair gains over plain rounding: KL to the float model at 2, 3 and 4 bits.

All layers take one format. The test split is resampled in pairs, so that the interval is that
of the difference between the two methods on the same samples; calibration uses the whole
calibration split, hence is the same in every repeat.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search.benches.base import Figure, figure
from search.evaluate import Evaluator
from search.plan import make_plan
from search.settings import Settings
from spaces.choices import parse_choice

METHODS = {
    "gptq": ("gptq",),
    "adaround": ("adaround",),
    "bias_correction": ("bias_correction",),
    "gptq+bias_correction": ("gptq", "bias_correction"),
    "equalize": ("equalize",),
}
GAIN_BARS = {"gptq": 0.2, "adaround": 0.2}  # share of the KL that must go at 2 and 3 bits
WEIGHTS, ACTIVATIONS = (2, 3, 4), (4, 8)
RESAMPLES = 200


def run(config: Mapping[str, Any]) -> Iterator[Figure]:
    """Yields the plain KL and every repair's gain for the configured task."""
    plan = make_plan(Settings.from_dict(config))
    base = replace(plan.settings.method, repair=())

    def evaluator(repair: tuple[str, ...]) -> Evaluator:
        return Evaluator(plan.task, plan.space, replace(base, name="bench", repair=repair))

    plain = evaluator(())
    repaired = {name: evaluator(repair) for name, repair in METHODS.items()}
    for bits in WEIGHTS:
        for width in ACTIVATIONS:
            text = f"int{bits}src/int{width}ut"
            case = f"{plan.task.name}/{text}"
            before = divergences(plain, text)
            yield figure("ptq", case, "kl_plain", resampled(before, before)[:, 0].tolist(), "nat")
            for name, other in repaired.items():
                yield _gain(case, name, before, divergences(other, text), bits)


def divergences(evaluator: Evaluator, text: str) -> Tensor:
    """KL divergence from the float model to one with every layer in ``text``, ``[n]`` nats."""
    reference = evaluator.float_logprobs("test")
    names = [layer.name for layer in evaluator.space.layers]
    evaluator.quantized.apply(dict.fromkeys(names, parse_choice(text)))
    inputs = evaluator.split("test").inputs
    with torch.no_grad():
        logits = torch.cat([evaluator.quantized(batch) for batch in torch.split(inputs, 100)])
    found = torch.log_softmax(logits, dim=1)
    return (reference.exp() * (reference - found)).sum(1).double()


def resampled(first: Tensor, second: Tensor) -> np.ndarray:
    """Means of paired bootstrap samples, ``float[RESAMPLES, 2]``."""
    both = torch.stack([first, second], dim=1).numpy()
    rng = np.random.default_rng(0)
    return np.stack(
        [both[rng.integers(0, len(both), len(both))].mean(axis=0) for _ in range(RESAMPLES)]
    )


def _gain(case: str, name: str, before: Tensor, after: Tensor, bits: int) -> Figure:
    """Share of the KL that a repair takes away; negative where it hurts."""
    means = resampled(before, after)
    gains = (1 - means[:, 1] / means[:, 0]).tolist()
    bar = GAIN_BARS.get(name) if bits < 4 else 0.0
    shown = figure("ptq", case, f"gain_{name}", gains, "share", bar=bar, better="higher")
    low, high = np.quantile(gains, [0.025, 0.975])
    # The resampled means are the repeats: their spread, not that of their median, counts.
    return replace(shown, interval=(float(low), float(high)), n=len(before))
