"""What each repair gains over plain rounding, and what calibration without data loses.

All layers take one format. Every method is calibrated five times, each time on another half of
the calibration split, and judged by the KL divergence from the float model on the test split. A
gain is the share of plain rounding's KL that a method takes away; the figure is the median over
the five calibrations. Its interval resamples calibrations and test samples together, in pairs:
both methods see the same calibration half and the same test samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from quant.method import Method
from quant.model import QuantizedModel
from quant.zero_shot import synthetic_inputs
from search.benches.base import Figure, figure
from search.plan import load_task
from search.progress import say
from search.settings import Settings
from search.tasks.base import Task
from spaces.choices import parse_choice
from spaces.inventory import trace

METHODS = {
    "gptq": ("gptq",),
    "adaround": ("adaround",),
    "adaquant": ("adaquant",),
    "brecq": ("brecq",),
    "qdrop": ("qdrop",),
    "lapq": ("lapq",),
    "smooth": ("smooth",),
    "equalize": ("equalize",),
    "bias_correction": ("bias_correction",),
    "gptq+bias_correction": ("gptq", "bias_correction"),
}
NORM_METHODS = {
    "analytic_bias": ("analytic_bias",),
    "bn_reestimate": ("bn_reestimate",),
    "adaround+bn_reestimate": ("adaround", "bn_reestimate"),
}
GAIN_BARS = {"gptq": 0.2, "adaround": 0.2, "brecq": 0.2, "qdrop": 0.2}
"""Share of the KL that must go at 2 and 3 bits; at 4 bits every method's bar is 0."""

ZERO_SHOT_BAR = 1.5
ZERO_SHOT_CASES = ("int8src/int8ut", "int4src/int8ut")
WEIGHTS, ACTIVATIONS = (2, 3, 4), (8, 4)
SEEDS, RESAMPLES = 5, 500


@dataclass(frozen=True)
class Bench:
    """The task and how often it is calibrated.

    Attributes:
        task: model and splits.
        layers: names of all layers.
        method: plain rounding.
        seeds: calibrations per method.
    """

    task: Task
    layers: tuple[str, ...]
    method: Method
    seeds: int = SEEDS

    def calibrated(self, method: Method, inputs: Tensor) -> QuantizedModel:
        """The model under ``method``, calibrated on ``inputs``."""
        batches = torch.split(inputs, self.task.batch_size)
        return QuantizedModel(self.task.model, self.layers, method, list(batches))

    def half(self, seed: int) -> Tensor:
        """Half of the calibration inputs, another one for every seed."""
        inputs = self.task.calibration.inputs
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
        return inputs[order[: max(1, len(inputs) // 2)]]

    def divergences(self, model: QuantizedModel, text: str) -> Tensor:
        """KL divergence from the float model with every layer in ``text``, ``[n]`` nats."""
        model.apply(dict.fromkeys(self.layers, parse_choice(text)))
        found = self._logprobs(model)
        return (self.exact.exp() * (self.exact - found)).sum(1)

    @cached_property
    def exact(self) -> Tensor:
        """Log-probabilities of the float model on the test split, ``[n, classes]`` float64."""
        return self._logprobs(self.task.model)

    @torch.no_grad()
    def _logprobs(self, model: Callable[[Tensor], Tensor]) -> Tensor:
        parts = torch.split(self.task.test.inputs, 100)
        return F.log_softmax(torch.cat([model(x) for x in parts]).double(), dim=1)


def run(config: Mapping[str, Any]) -> Iterator[Figure]:
    """Yields plain KLs, every repair's gains and, with batch norms, the data-free ratios."""
    settings = Settings.from_dict(config)
    task = load_task(settings)
    layers = tuple(layer.name for layer in trace(task.model, task.example_input).layers)
    bench = Bench(task, layers, replace(settings.method, repair=(), calibration="data"))
    has_norms = bool(bench.calibrated(bench.method, bench.half(0)).norms)
    plain = {text: bench_plain(bench, text) for text in cases()}
    for text, before in plain.items():
        yield figure("ptq", f"{task.name}/{text}", "kl_plain", before.mean(1).tolist(), "nat")
    for name, repair in {**METHODS, **(NORM_METHODS if has_norms else {})}.items():
        method = replace(bench.method, name=name, repair=repair)
        for text, after in repaired(bench, method).items():
            yield gain(f"{task.name}/{text}", name, plain[text], after)
    if has_norms:
        yield from zero_shot(bench)


def cases() -> list[str]:
    """Formats of all layers."""
    return [f"int{bits}src/int{width}ut" for width in ACTIVATIONS for bits in WEIGHTS]


def bench_plain(bench: Bench, text: str) -> Tensor:
    """KLs of plain rounding, ``[seeds, n]``."""
    models = (bench.calibrated(bench.method, bench.half(seed)) for seed in range(bench.seeds))
    return torch.stack([bench.divergences(model, text) for model in models])


def repaired(bench: Bench, method: Method) -> dict[str, Tensor]:
    """KLs of a method by case, ``[seeds, n]``; a layer's rounding serves all its cases."""
    found: dict[str, list[Tensor]] = {text: [] for text in cases()}
    for seed in range(bench.seeds):
        model = bench.calibrated(method, bench.half(seed))
        for text, parts in found.items():
            parts.append(bench.divergences(model, text))
        say(f"ptq: {method.name}, calibration {seed + 1} of {bench.seeds}")
    return {text: torch.stack(parts) for text, parts in found.items()}


def zero_shot(bench: Bench) -> Iterator[Figure]:
    """KL with distilled, generated and norm-based calibration over that with data."""
    for source in ("distilled", "generated", "batch_norm"):
        after: dict[str, list[Tensor]] = {text: [] for text in ZERO_SHOT_CASES}
        before: dict[str, list[Tensor]] = {text: [] for text in ZERO_SHOT_CASES}
        for seed in range(bench.seeds):
            half = bench.half(seed)
            method = replace(bench.method, calibration=source, samples=len(half), seed=seed)
            made = synthetic_inputs(bench.task.model, tuple(half.shape[1:]), method)
            for text in ZERO_SHOT_CASES:
                after[text].append(bench.divergences(bench.calibrated(method, made), text))
                data = bench.calibrated(bench.method, half)
                before[text].append(bench.divergences(data, text))
        for text in ZERO_SHOT_CASES:
            bar = ZERO_SHOT_BAR if source == "distilled" else None
            case, metric = f"{bench.task.name}/{text}", f"kl_{source}_over_data"
            made_up, real = torch.stack(after[text]), torch.stack(before[text])
            yield ratio_figure(case, metric, made_up, real, bar=bar)


def resampled(first: Tensor, second: Tensor) -> np.ndarray:
    """Ratios ``first / second`` of mean KLs, the median over calibrations of each resample.

    Args:
        first: ``[seeds, n]``; calibrations and samples are drawn with those of ``second``.
        second: ``[seeds, n]``.
    """
    a, b = first.numpy(), second.numpy()
    rng = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLES):
        rows = rng.integers(0, len(a), len(a))
        columns = rng.integers(0, a.shape[1], a.shape[1])
        found.append(np.median(_ratio(a[rows][:, columns], b[rows][:, columns])))
    return np.array(found)


def gain(case: str, name: str, before: Tensor, after: Tensor) -> Figure:
    """Share of the KL that a repair takes away; negative where it hurts."""
    low_bits = not case.split("/")[1].startswith("int4")
    bar = GAIN_BARS.get(name) if low_bits else 0.0
    return _figure(case, f"gain_{name}", 1 - _ratio(after, before), 1 - resampled(after, before),
                   "share", bar, "higher")  # fmt: skip


def ratio_figure(
    case: str, metric: str, first: Tensor, second: Tensor, bar: float | None
) -> Figure:
    """Ratio of mean KLs, median over calibrations."""
    ratios, spread = _ratio(first, second), resampled(first, second)
    return _figure(case, metric, ratios, spread, "ratio", bar, "lower")


def _ratio(first: Any, second: Any) -> np.ndarray:
    ratios: np.ndarray = np.asarray(first).mean(1) / np.asarray(second).mean(1)
    return ratios


def _figure(
    case: str,
    metric: str,
    values: np.ndarray,
    spread: np.ndarray,
    unit: str,
    bar: float | None,
    better: str,
) -> Figure:
    shown = figure("ptq", case, metric, values.tolist(), unit, bar=bar, better=better)
    low, high = np.quantile(spread, [0.025, 0.975])
    # The spread over calibrations and samples together, not that of five medians alone.
    return replace(shown, interval=(float(low), float(high)))
