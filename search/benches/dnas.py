"""What a step of differentiable search costs against a step of training the float model.

Both take the same batch of the same net: the search step mixes every choice of every layer, goes
forward and backward, and moves the shares; the training step goes forward and backward through
the float model and moves its weights. CPU time of one thread, interleaved. Memory is what
autograd keeps for the backward pass, plus what the mixture or the optimiser holds.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from quant.folding import fold_batch_norm
from search.api import compose_plain
from search.benches.base import Figure, figure, interleaved
from search.dnas.budget import AugmentedLagrangian
from search.dnas.mixture import Mixture, ladder_order
from search.dnas.relaxations import Ladder, relaxation
from search.dnas.training import Trainer, TrainingOptions
from search.evaluate import Evaluator
from search.plan import devices_of as devices
from search.plan import load_task, resolve_space
from search.settings import Settings
from search.strategies.base import Trainable
from search.tasks.base import Task
from spaces.inventory import trace

TIME_BAR, MEMORY_BAR = 2.5, 2.0
ROUNDS, BATCH = 20, 50
CASES = (("digits_resnet", "w2348"), ("digits_resnet", "w2348_a48"), ("digits_vit", "w2348"))


def run(config: Mapping[str, Any]) -> Iterator[Figure]:
    """Two figures per case."""
    del config
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for task, space in CASES:
            settings = Settings.from_dict(compose_plain([f"task={task}", f"space={space}"]))
            yield from _case(f"{task} {space}", settings)
    finally:
        torch.set_num_threads(threads)


def _case(case: str, settings: Settings) -> Iterator[Figure]:
    task = load_task(settings)
    space = resolve_space(settings.space, trace(task.model, task.example_input), devices(settings))
    evaluator = Evaluator(task, space, settings.method)
    calibration = task.calibration
    model = Trainable(evaluator.quantized, calibration.inputs, calibration.labels, task.search.n)
    mixture = Mixture(model.quantized, space)
    sizes = torch.from_numpy(space.sizes)
    shape = (len(space.groups), int(sizes.max()))
    ladder = Ladder(ladder_order(torch.zeros(shape), sizes.tolist()), sizes, torch.zeros(shape))
    generator = torch.Generator().manual_seed(0)
    relaxed = relaxation("softmax", ladder, generator)
    trainer = Trainer(model, mixture, relaxed, TrainingOptions(batch=BATCH), generator)
    optimiser = torch.optim.Adam(relaxed.parameters(), 0.1)
    table = torch.rand(shape, generator=generator)
    searched = partial(
        trainer.step, optimiser, AugmentedLagrangian(), lambda p: (p * table).sum(), 1.0, 0.5
    )
    plain = _plain_step(task)
    seconds = interleaved([searched, plain], ROUNDS, time.thread_time_ns)
    ratios = (seconds[:, 0] / seconds[:, 1]).tolist()
    yield figure("dnas", case, "step_over_float_training_step", ratios, "ratio", bar=TIME_BAR)
    parameters = sum(p.numel() * 4 for p in task.model.parameters())
    # The mixture's weights are among what autograd keeps; a float step has gradients and momentum.
    kept = [searched_bytes(mixture, searched), plain_bytes(plain) + 2 * parameters]
    yield figure(
        "dnas", case, "memory_over_float_training", [kept[0] / kept[1]], "ratio", bar=MEMORY_BAR
    )


def _plain_step(task: Task) -> Callable[[], None]:
    model = copy.deepcopy(fold_batch_norm(task.model).model)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    optimiser = torch.optim.SGD(model.parameters(), 1e-6, momentum=0.9)
    inputs, labels = task.calibration.inputs[:BATCH], task.calibration.labels[:BATCH]

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


class Kept:
    """Counts the distinct memory of tensors that autograd keeps."""

    def __init__(self, how: Callable[[Tensor], Tensor]) -> None:
        self._how, self._alive = how, list[Tensor]()
        self._bytes: dict[int, int] = {}

    def __call__(self, tensor: Tensor) -> Tensor:
        """Keeps a tensor as ``how`` says."""
        held = self._how(tensor)
        self._alive.append(held)  # so that no two addresses are the same
        storage = held.untyped_storage()
        self._bytes[storage.data_ptr()] = storage.nbytes()
        return held

    @property
    def bytes(self) -> int:
        """Bytes kept so far."""
        return sum(self._bytes.values())


def searched_bytes(mixture: Mixture, step: Callable[[], Any]) -> int:
    """What autograd keeps during a search step."""
    before, mixture.keep = mixture.keep, Kept(mixture.keep)
    counted = mixture.keep
    try:
        step()
    finally:
        mixture.keep = before
    return counted.bytes


def plain_bytes(step: Callable[[], Any]) -> int:
    """What autograd keeps during any other step."""
    counted = Kept(lambda tensor: tensor)
    with torch.autograd.graph.saved_tensors_hooks(counted, lambda tensor: tensor):
        step()
    return counted.bytes
