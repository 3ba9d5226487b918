"""Integer-only inference against the simulation: answers, accuracy, steps after requantization.

Uniform int8 and mixed policies drawn by seed, the whole test split. Nothing between input codes
and logits is a float; a dispatch mode refuses the first one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quant.integer.convert import IntegerModel, integer_model, integers_only
from search.benches.base import Figure, figure
from search.evaluate import Evaluator
from search.plan import devices_of as devices
from search.plan import load_task, resolve_space
from search.settings import Settings
from search.tasks.synthetic import with_calibration
from spaces.baselines import uniform_policies
from spaces.inventory import trace
from spaces.policy import Policy

MIXED = 4
TASKS = ("digits_resnet", "digits_vit")


def run(config: Mapping[str, Any]) -> Iterator[Figure]:
    """Figures of the shipped tasks, in space ``w2348``."""
    from search.api import compose_plain

    del config
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for task in TASKS:
            settings = Settings.from_dict(compose_plain([f"task={task}", "space=w2348"]))
            yield from _case(task, settings)
    finally:
        torch.set_num_threads(threads)


def _case(name: str, settings: Settings) -> Iterator[Figure]:
    task = with_calibration(load_task(settings), settings.method)
    traced = trace(task.model, task.example_input)
    space = resolve_space(settings.space, traced, devices(settings))
    evaluator = Evaluator(task, space, settings.method)
    drawn = [
        dict(uniform_policies(space))["w8a8"],
        *space.sample(np.random.default_rng(0), MIXED),
    ]
    agreements, differences, steps = [], [], []
    for codes in drawn:
        policy = space.policy(codes)
        expected = evaluator.logits(policy, "test")
        model = _converted(evaluator, policy)
        found, off = _answers(model, task.test.inputs)
        labels = task.test.labels
        agreements.append(float((found.argmax(1) == expected.argmax(1)).double().mean()))
        right = [int((logits.argmax(1) == labels).sum()) for logits in (expected, found)]
        differences.append(abs(right[1] - right[0]))
        steps.append(off)
    yield figure(
        "integer", name, "largest_accuracy_difference", [max(differences)], "samples", bar=1.0
    )
    yield figure("integer", name, "steps_after_requantization", [max(steps)], "LSB", bar=1.0)
    yield figure("integer", name, "agreement_of_policies", agreements, "share", better="higher")


def _converted(evaluator: Evaluator, policy: Policy) -> IntegerModel:
    choices = {layer: policy[layer] for layer in policy}
    batches = torch.split(evaluator.task.calibration.inputs, evaluator.task.batch_size)
    return integer_model(evaluator.quantized, choices, batches)


def _answers(model: IntegerModel, inputs: Tensor) -> tuple[Tensor, float]:
    """Integer logits, and the largest distance of a requantized code to a float requantizer.

    Both get the same integers, layer by layer.
    """
    entered: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _, args, name=name: entered.update({name: args[0]}))
        for name, layer in model.layers.items()
    ]
    codes = model.encode(inputs)
    with integers_only():
        logits = model(codes)
    for hook in hooks:
        hook.remove()
    worst = 0.0
    for name, stream in entered.items():
        layer = model.layers[name]
        rounded = torch.round(stream.double() * layer.enter_ratio).clamp(layer.low, layer.high)
        worst = max(worst, float((layer.codes(stream) - rounded).abs().max()))
    return logits, worst
