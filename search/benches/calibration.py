"""Calibrating every format of the space against calibrating one: time, data passes, memory.

One calibration gathers the statistics of all layers in one pass and then finds the ranges of every
layer and format. Memory is that of all tensors alive at once, counted at every operation, without
the given model and inputs (``peak``: what calibration adds) and with the given model
(``peak_with_model``); rounded weights are dropped as soon as their ranges are known (searches keep
those it evaluates). Time is CPU time of one thread, both cases interleaved.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from quant.formats import Format
from quant.model import QuantizedModel
from search.benches.base import Figure, figure, interleaved
from search.plan import make_plan
from search.settings import Settings
from search.tasks.base import Task
from spaces.choices import Choice
from spaces.space import SearchSpace

TIME_BAR, MEMORY_BAR = 2.0, 1.0
ROUNDS = 9


def run(config: Mapping[str, Any]) -> Iterator[Figure]:
    """Yields the figures for the configured task, space and method."""
    plan = make_plan(Settings.from_dict(config))
    method, task, space = plan.settings.method, plan.task, plan.space
    case = f"{task.name}/{space.name}"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        passes = _Passes(task)

        def calibrate(one: bool) -> None:
            passes.count = 0
            names = [layer.name for layer in space.layers]
            model = QuantizedModel(task.model, names, method, passes, layer_methods(space))
            find_ranges(model, space, one)

        cases: Sequence[Callable[[], object]] = [
            lambda: calibrate(one=False),
            lambda: calibrate(one=True),
        ]
        seconds = interleaved(cases, ROUNDS, time.thread_time_ns)
        ratios = (seconds[:, 0] / seconds[:, 1]).tolist()
        yield figure("calibration", case, "all_over_one_format", ratios, "ratio", bar=TIME_BAR)
        given = [*task.model.parameters(), *task.model.buffers(), task.calibration.inputs]
        with torch.no_grad(), Peak(given) as peak:
            calibrate(one=False)
        with torch.no_grad(), Peak(given) as forward:
            task.model(task.calibration.inputs[: task.batch_size])
    finally:
        torch.set_num_threads(threads)
    yield figure("calibration", case, "data_passes", [passes.count], "passes", bar=1)
    allowed = 2 * _model_bytes(task) + forward.most
    yield figure("calibration", case, "peak", [peak.most / 1e6], "MB")
    share = peak.most / allowed
    yield figure("calibration", case, "peak_over_bound", [share], "ratio", bar=MEMORY_BAR)
    whole = (peak.most + _model_bytes(task)) / allowed
    yield figure("calibration", case, "peak_with_model_over_bound", [whole], "ratio")


def layer_methods(space: SearchSpace) -> list[str]:
    """Methods that layers of a space may be given."""
    found = {choice.method for group in space.groups for choice in group.all_choices}
    return sorted(found - {""})


def find_ranges(model: QuantizedModel, space: SearchSpace, one: bool) -> None:
    """Ranges of every layer in all its choices, or in its last one alone."""
    for group in space.groups:
        choices: tuple[Choice, ...] = group.choices[-1:] if one else group.choices
        weights = dict.fromkeys((choice.weight, choice.method) for choice in choices)
        inputs: dict[Format, None] = dict.fromkeys(choice.activation for choice in choices)
        for layer in group.layers:
            for fmt, method in weights:
                model.weight_quantizer(layer, fmt, method)
            for fmt in inputs:
                model.input_quantizer(layer, fmt)


class _Passes:
    """The calibration batches, counting how often they are read."""

    def __init__(self, task: Task) -> None:
        self._task, self.count = task, 0

    def __iter__(self) -> Iterator[Tensor]:
        self.count += 1
        yield from torch.split(self._task.calibration.inputs, self._task.batch_size)


class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of all storages made inside that are alive at once, at most.

    Args:
        given: tensors that are there anyway; views of them add nothing.
    """

    def __init__(self, given: Sequence[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known = {tensor.untyped_storage().data_ptr() for tensor in given}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(item, Tensor):
                self._note(item)
        return result

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage.data_ptr()
        if not key or key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _model_bytes(task: Task) -> int:
    tensors = [*task.model.parameters(), *task.model.buffers()]
    return int(np.sum([tensor.numel() * tensor.element_size() for tensor in tensors]))
