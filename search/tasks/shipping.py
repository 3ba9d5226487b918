"""Sending a task to worker processes: a skeleton without tensors, and arrays by name.

Arrays travel through an object store without copies and arrive read-only; the worker rebuilds
the module around them and never writes to them.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from search.tasks.base import FIELDS, SPLITS, Split, Task

Arrays = dict[str, np.ndarray]
MODEL = "model."


@dataclass(frozen=True)
class Skeleton:
    """A task whose tensors lie on the ``meta`` device."""

    task: Task


def pack(task: Task) -> tuple[Skeleton, Arrays]:
    """Splits a task into a small skeleton and its arrays (views, not copies)."""
    arrays = {
        f"{which}.{field}": getattr(getattr(task, which), field).numpy()
        for which in SPLITS
        for field in FIELDS
    }
    arrays |= {MODEL + name: tensor.detach().numpy() for name, tensor in _tensors(task.model)}
    # Built from the arrays, so nothing is copied before it is thrown away.
    memo = {id(tensor): _on_meta(tensor) for _, tensor in _tensors(task.model)}
    model = copy.deepcopy(task.model, memo)
    empty = Split(torch.empty(0), torch.empty(0))
    bare = replace(task, model=model, calibration=empty, search=empty, test=empty, deployed=None)
    return Skeleton(bare), arrays


def unpack(skeleton: Skeleton, arrays: Mapping[str, np.ndarray]) -> Task:
    """Rebuilds the task around ``arrays``; outputs equal those of the original bit for bit."""
    tensors = {name: _tensor(array) for name, array in arrays.items()}
    model = copy.deepcopy(skeleton.task.model)
    for name, _ in list(_tensors(model)):
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        old = getattr(module, leaf)
        new = tensors[MODEL + name]
        if isinstance(old, nn.Parameter):
            module.register_parameter(leaf, nn.Parameter(new, requires_grad=False))
        else:
            persistent = leaf not in module._non_persistent_buffers_set
            module.register_buffer(leaf, new, persistent=persistent)
    calibration, search, test = (
        Split(tensors[f"{which}.inputs"], tensors[f"{which}.labels"]) for which in SPLITS
    )
    return replace(
        skeleton.task, model=model.eval(), calibration=calibration, search=search, test=test
    )


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers, persistent or not, shared ones under every name."""
    return [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]


def _on_meta(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


def _tensor(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():
        # Arrays of the object store are read-only; nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
