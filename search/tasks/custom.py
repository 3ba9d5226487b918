"""Your own model and data: from a module on the path, or straight from a notebook."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quant.errors import DataError, UsageError, nearest
from search.tasks.base import SPLITS, Split, Task, make_task


def custom(
    model: str,
    data: str,
    name: str = "custom",
    batch_size: int = 100,
    progress: Any = None,
) -> Task:
    """A task from two functions of yours.

    Args:
        model: ``module:function`` returning a trained float ``nn.Module``.
        data: ``module:function`` returning ``{calibration, search, test}``, each a pair
            ``(inputs, labels)`` of tensors or an iterable of such batches; without calibration
            only data-free methods work.
        name: name of the task.
        batch_size: samples per forward pass.
        progress: unused; your functions show their own.

    Raises:
        UsageError: a function cannot be found.
        DataError: what it returns is not a model or not three splits.
    """
    built = _load(model, "task.model")()
    if not isinstance(built, nn.Module):
        raise DataError(
            f"{model} returned a {type(built).__name__}",
            where="task.model",
            expected="a torch.nn.Module",
        )
    splits = _load(data, "task.data")()
    if isinstance(splits, (tuple, list)) and len(splits) == len(SPLITS):
        splits = dict(zip(SPLITS, splits, strict=True))
    if not isinstance(splits, Mapping) or {"calibration", *splits} != set(SPLITS):
        shown = sorted(splits) if isinstance(splits, Mapping) else type(splits).__name__
        raise DataError(
            f"{data} returned {shown}",
            where="task.data",
            expected="a mapping with calibration (unless there is none), search and test",
        )
    return task_from(
        built,
        *(splits.get(which) for which in SPLITS),
        name=name,
        batch_size=batch_size,
        title=f"{model} on {data}",
    )


def task_from(
    model: nn.Module,
    calibration: Any,
    search: Any,
    test: Any,
    *,
    name: str = "custom",
    title: str = "",
    batch_size: int = 100,
) -> Task:
    """A task from a model and three splits in memory.

    Args:
        model: trained float model, ``[n, ...] -> [n, classes]``.
        calibration: ``(inputs, labels)`` tensors, or an iterable of such batches; None where
            there is none.
        search: the same.
        test: the same.
        name: name of the task.
        title: one line for people.
        batch_size: samples per forward pass.

    Raises:
        DataError: see :func:`search.tasks.base.make_task`.
    """
    splits = {
        which: as_split(data, which)
        for which, data in zip(SPLITS, (calibration, search, test), strict=True)
        if data is not None
    }
    title = title or f"{type(model).__name__}"
    return make_task(name, title, model, splits, batch_size=batch_size)


def as_split(data: Any, which: str) -> Split:
    """A split from a pair of tensors or an iterable of batches.

    Raises:
        DataError: neither form.
    """
    if isinstance(data, Split):
        return data
    if isinstance(data, (tuple, list)) and len(data) == 2 and _is_array(data[0]):
        return Split(_floats(data[0]), _labels(data[1]))
    if not isinstance(data, Iterable):
        raise _bad_split(which, type(data).__name__)
    inputs, labels = [], []
    for batch in data:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2 or not _is_array(batch[0]):
            raise _bad_split(which, f"an iterable of {type(batch).__name__}")
        inputs.append(_floats(batch[0]))
        labels.append(_labels(batch[1]))
    if not inputs:
        return Split(torch.empty(0), torch.empty(0, dtype=torch.int64))
    return Split(torch.cat(inputs), torch.cat(labels))


def _bad_split(which: str, found: str) -> DataError:
    return DataError(
        f"the {which} split is {found}",
        where=f"task.{which}",
        expected="a pair (inputs, labels) of tensors, or an iterable of such batches",
    )


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor) or hasattr(value, "__array__")


def _floats(value: Any) -> Tensor:
    return torch.as_tensor(value).detach().to(torch.float32).contiguous()


def _labels(value: Any) -> Tensor:
    return torch.as_tensor(value).detach().to(torch.int64).reshape(-1)


def _load(path: str, where: str) -> Any:
    """Imports ``module:function`` (or ``module.function``); the working directory counts."""
    module_name, _, name = path.replace(":", ".").rpartition(".")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (ModuleNotFoundError, ValueError) as cause:
        raise UsageError(
            f"'{path}' cannot be imported: {cause}",
            where=where,
            expected="module:function, the module in the working directory or installed",
        ) from cause
    if not callable(getattr(module, name, None)):
        raise UsageError(
            f"module '{module_name}' has no function '{name}'",
            where=where,
            fix=nearest(name, [n for n in dir(module) if not n.startswith("_")]),
        )
    return getattr(module, name)
