"""A task: a trained float model and three splits of data that never overlap.

Strategies only ever see qualities on the search split; ranges and scores come from the
calibration split; the test split is read once, after the fronts are fixed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quant.errors import DataError

SPLITS = ("calibration", "search", "test")


@dataclass(frozen=True)
class Split:
    """Inputs and labels.

    Attributes:
        inputs: ``[n, ...]`` float.
        labels: ``[n]`` int64, 0 .. classes-1.
    """

    inputs: Tensor
    labels: Tensor

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.labels)


@dataclass(frozen=True)
class Deployed:
    """The model as a device runs it, where that differs from how it is evaluated.

    Attributes:
        model: the same layers and weights under the same names, for example one decode step of a
            language model.
        example_input: one call's input, ``[1, ...]``.
    """

    model: nn.Module
    example_input: Tensor


@dataclass(frozen=True)
class Task:
    """Model, data and what identifies both.

    Attributes:
        name: short name, part of every quality key.
        title: one line for people.
        model: float32, eval mode; ``[n, ...] -> [n, classes]`` logits.
        calibration: ranges and scores are computed on it; empty where there is no such data.
        search: every quality a strategy sees is computed on it.
        test: read once for the final front.
        classes: number of classes.
        data_hash: hash of the three splits.
        weights_hash: hash of the model's tensors.
        metric: what people of the field quote, ``"accuracy"``, or ``"bits_per_byte"`` where a
            sample is a byte to predict: the cross-entropy over ln 2, shown beside it.
        batch_size: samples per forward pass.
        synthetic: whether the calibration split is made up; its labels then are the model's.
        deployed: what costs are computed and measured on; the model itself when None.
    """

    name: str
    title: str
    model: nn.Module
    calibration: Split
    search: Split
    test: Split
    classes: int
    data_hash: str
    weights_hash: str
    metric: str = "accuracy"
    batch_size: int = 100
    synthetic: bool = False
    deployed: Deployed | None = None

    @property
    def example_input(self) -> Tensor:
        """One sample, ``[1, ...]``, of the calibration split where there is one."""
        return (self.calibration if self.calibration.n else self.search).inputs[:1]

    @property
    def on_device(self) -> Deployed:
        """What the inventory is taken of and what latency is measured on."""
        return self.deployed or Deployed(self.model, self.example_input)


def make_task(
    name: str,
    title: str,
    model: nn.Module,
    splits: Mapping[str, Split],
    *,
    classes: int | None = None,
    batch_size: int = 100,
    deployed: Deployed | None = None,
    metric: str = "accuracy",
) -> Task:
    """Checks model and data, then builds a task.

    Args:
        name: short name.
        title: one line for people.
        model: trained float model; it is switched to eval mode.
        splits: ``search`` and ``test``, and ``calibration`` unless there is no such data.
        classes: number of classes; the model's output width when None.
        batch_size: samples per forward pass.
        deployed: see :class:`Task`.
        metric: see :class:`Task`.

    Raises:
        DataError: a split is empty, samples overlap, labels or outputs are out of shape, or the
            model answers NaN.
    """
    for which in SPLITS:
        if which != "calibration" or which in splits:
            _check_split(which, splits[which])
    search = splits["search"]
    splits = {"calibration": Split(search.inputs[:0], search.labels[:0]), **splits}
    _check_disjoint(splits)
    model = model.eval()
    classes = _check_model(model, search, classes)
    for which in SPLITS:
        if splits[which].n:
            _check_labels(which, splits[which].labels, classes)
    return Task(
        name,
        title,
        model,
        splits["calibration"],
        splits["search"],
        splits["test"],
        classes,
        data_hash=data_hash(*(splits[which] for which in SPLITS)),
        weights_hash=hash_tensors(model.state_dict()),
        metric=metric,
        batch_size=batch_size,
        deployed=deployed,
    )


FIELDS = ("inputs", "labels")


def data_hash(*splits: Split) -> str:
    """Hash of the calibration, search and test split."""
    named = zip(SPLITS, splits, strict=True)
    return hash_tensors({f"{k}.{f}": getattr(split, f) for k, split in named for f in FIELDS})


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """First 16 hex digits of the SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _check_split(name: str, split: Split) -> None:
    if split.n == 0 or len(split.inputs) == 0:
        raise DataError(
            f"the {name} split is empty",
            where=f"task.{name}",
            expected="at least one sample",
            fix="give every split data: calibration, search and test",
        )
    if len(split.inputs) != split.n:
        raise DataError(
            f"the {name} split has {len(split.inputs)} inputs and {split.n} labels",
            where=f"task.{name}",
            expected="one label per input",
        )
    if not bool(torch.isfinite(split.inputs).all()):
        raise DataError(f"the {name} split holds NaN or infinity", where=f"task.{name}.inputs")


def _check_disjoint(splits: Mapping[str, Split]) -> None:
    owner: dict[bytes, str] = {}
    for name in SPLITS:
        for number, sample in enumerate(splits[name].inputs):
            key = hashlib.sha256(sample.contiguous().numpy().tobytes()).digest()
            if owner.setdefault(key, name) != name:
                raise DataError(
                    f"sample {number} of the {name} split is also in the {owner[key]} split",
                    where=f"task.{name}",
                    expected="calibration, search and test without common samples",
                    fix="split the data once, before building the task",
                )


@torch.no_grad()
def _check_model(model: nn.Module, split: Split, classes: int | None) -> int:
    logits = model(split.inputs[: min(8, split.n)])
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if not isinstance(logits, Tensor) or logits.ndim != 2 or classes not in (None, shape[1]):
        raise DataError(
            f"the model returns {shape}",
            where="task.model",
            expected=f"a tensor [n, {classes or 'classes'}] of logits",
        )
    if not bool(torch.isfinite(logits).all()):
        raise DataError(
            "the float model answers NaN or infinity on search data",
            where="task.model",
            expected="finite logits",
            fix="check the weights and the scale of the inputs",
        )
    return int(logits.shape[1])


def _check_labels(name: str, labels: Tensor, classes: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if labels.dtype != torch.int64 or low < 0 or high >= classes:
        raise DataError(
            f"labels of the {name} split run from {low} to {high} ({labels.dtype})",
            where=f"task.{name}.labels",
            expected=f"int64 from 0 to {classes - 1}",
        )
