"""Rebuilds every table: ``python -m search.tabulated.build [name=...] [train=true]``.

Nets keep their stored weights unless ``train=true``: training gives other weights on another
machine, and tables and weights belong together.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hw_profiles.footprint import bops, size_bytes
from quant.method import Method
from quant.sensitivity.base import ScoreContext, padded
from quant.sensitivity.clado import PairTable
from quant.sensitivity.shifts import logit_shifts
from search.evaluate import Evaluator
from search.tabulated.nets import DATA, NETS, tabulated_task, train
from search.tabulated.scores import STORED
from search.tasks.base import Task
from spaces.build import build_space
from spaces.choices import Choice, parse_choice
from spaces.config import SpaceConfig
from spaces.inventory import trace
from spaces.space import Group, SearchSpace

Arrays = dict[str, npt.NDArray[Any]]
SPACES = {
    "w2348": ("size_bytes", [f"int{bits}src/int8ut" for bits in (2, 3, 4, 8)]),
    "wa3458": ("bops", [f"int{bits}src/int{bits}ut" for bits in (3, 4, 5, 8)]),
}
"""Cost and choices: weights alone against size, and weights with inputs against operations."""


def tables() -> dict[str, tuple[str, str]]:
    """``(net, space)`` of every table by its name."""
    return {f"{net}-{space}": (net, space) for net, space in product(NETS, SPACES)}


def build(net: str, space: str) -> Arrays:
    """All arrays of one table, see :mod:`search.tabulated.table`."""
    task = tabulated_task(net)
    metric, texts = SPACES[space]
    config = SpaceConfig(space, tuple(parse_choice(text) for text in texts))
    resolved = build_space(config, trace(task.model, task.example_input))
    evaluator = Evaluator(task, resolved, Method())
    qualities = evaluate_all(evaluator)
    reference = evaluator.float_logprobs("search")
    arrays: Arrays = {
        "space": np.array(json.dumps(resolved.to_json(), separators=(",", ":"))),
        "cost_metric": np.array(metric),
        "cost": cost_table(resolved, metric),
        "float_ce": np.array(float(F.nll_loss(reference.double(), task.search.labels))),
        "n": np.array(task.search.n),
        **{name: values.astype(np.float32) for name, values in qualities.items()},
    }
    return arrays | score_arrays(evaluator)


def evaluate_all(evaluator: Evaluator, split: str = "search") -> Mapping[str, Any]:
    """``ce``, ``kl`` and ``accuracy`` of every policy, ``float64[P]`` each, in C order.

    The net's stages are walked as a tree, so policies share the work of their common prefix.
    """
    labels = evaluator.split(split).labels
    reference = evaluator.float_logprobs(split).double()
    rows = np.array([_quality(z, labels, reference) for z in _leaves(evaluator, split)])
    return dict(zip(("ce", "kl", "accuracy"), rows.T, strict=True))


@torch.no_grad()
def _leaves(evaluator: Evaluator, split: str) -> Iterator[Tensor]:
    """Logits ``[n, classes]`` of every policy in C order."""
    quantized, stages = evaluator.quantized, evaluator.quantized.module
    assert isinstance(stages, nn.Sequential)

    def walk(depth: int, state: Any) -> Iterator[Tensor]:
        if depth == len(stages):
            yield state
            return
        group = evaluator.space.groups[depth]
        for choice in group.choices:
            quantized.apply({group.name: choice})
            yield from walk(depth + 1, stages[depth](state))

    yield from walk(0, evaluator.split(split).inputs)
    quantized.float_()


def _quality(logits: Tensor, labels: Tensor, reference: Tensor) -> tuple[float, float, float]:
    found = F.log_softmax(logits.double(), dim=1)
    kl = float((reference.exp() * (reference - found)).sum(dim=1).mean())
    correct = (logits.argmax(dim=1) == labels).double().mean()
    return float(F.nll_loss(found, labels)), max(0.0, kl), float(correct)


def cost_table(space: SearchSpace, metric: str) -> npt.NDArray[np.float64]:
    """Additive cost ``[groups, choices]``, NaN-padded, of searchable and baseline-only choices."""
    of = {"size_bytes": size_bytes, "bops": bops}[metric]

    def cost(group: Group, choice: Choice) -> float:
        return float(sum(of(space.layer_named[name], choice) for name in group.layers))

    return padded([[cost(group, c) for c in group.all_choices] for group in space.groups])


def score_arrays(evaluator: Evaluator) -> Arrays:
    """Logit shifts and every stored score, on the calibration split."""
    task, space = evaluator.task, evaluator.space
    context = ScoreContext(
        evaluator.quantized,
        tuple(group.layers for group in space.groups),
        tuple(group.choices for group in space.groups),
        task.calibration.inputs,
        task.calibration.labels,
        batch_size=25,
        generator=torch.Generator().manual_seed(0),
    )
    shifts = logit_shifts(context)
    arrays: Arrays = {
        "base": shifts.base,
        "shifts": shifts.shifts.astype(np.float16),
        "labels": task.calibration.labels.numpy(),
        "work.lss": _equivalents(task, shifts.forward_equivalents),
    }
    for kind, score in STORED.items():
        print(f"  {kind}", file=sys.stderr)
        table = score.compute(context)
        arrays[f"work.{kind}"] = _equivalents(task, table.forward_equivalents)
        arrays[f"score.{kind}"] = table.value
        arrays[f"score.{kind}.error"] = table.standard_error
        if table.curvature is not None:
            arrays[f"score.{kind}.curvature"] = table.curvature
        if isinstance(table.surrogate, PairTable):
            arrays[f"score.{kind}.form"] = table.surrogate.form
    return arrays


def _equivalents(task: Task, passes: float) -> npt.NDArray[np.float64]:
    """Passes over the calibration split in passes over search-validation."""
    return np.array(passes * task.calibration.n / task.search.n)


def main(argv: Sequence[str]) -> None:
    """Entry point; every table unless ``name`` picks one."""
    options = dict(word.split("=", 1) for word in argv)
    chosen = {k: v for k, v in tables().items() if options.get("name", k) == k}
    if options.get("train") == "true":
        for net in dict.fromkeys(net for net, _ in chosen.values()):
            train(net)
    for name, (net, space) in chosen.items():
        print(name, file=sys.stderr)
        arrays: Any = build(net, space)
        np.savez_compressed(DATA / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main(sys.argv[1:])
