"""Where a task's calibration inputs come from: its own split, or the model alone."""

from __future__ import annotations

from dataclasses import replace

import torch

from quant.errors import UsageError
from quant.method import Method
from quant.zero_shot import synthetic_inputs
from search.tasks.base import Split, Task, data_hash


def with_calibration(task: Task, method: Method) -> Task:
    """The task with the calibration split the method asks for.

    Data-free methods get made-up inputs, labelled with the model's own answers, whether the task
    has a split of its own or not: they must not see it.

    Raises:
        UsageError: the method calibrates on data and the task has none.
        DataError: the method reads batch norms and the model has none.
    """
    if method.calibration == "data":
        if task.calibration.n:
            return task
        raise UsageError(
            f"method '{method.name}' calibrates on data, and the task has no calibration split",
            where="method.calibration",
            expected="batch_norm, distilled or generated",
            fix="method=zeroq, or give the task calibration data (task.data=all)",
        )
    shape = tuple(task.search.inputs.shape[1:])
    inputs = synthetic_inputs(task.model, shape, method)
    with torch.no_grad():
        labels = torch.cat(
            [task.model(part).argmax(1) for part in torch.split(inputs, task.batch_size)]
        )
    calibration = Split(inputs, labels)
    made = replace(task, calibration=calibration, synthetic=True)
    return replace(made, data_hash=data_hash(calibration, task.search, task.test))
