"""Deterministic training of the shipped tasks: from the package, from the cache, or anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hw_profiles.store import alone, cache_dir
from search.tasks import weights
from search.tasks.base import Split, hash_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

Progress = Callable[[float, float, str], None]
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
THREADS = 2
"""Fixed: the order of floating-point sums, and so the weights, depend on it."""


def silent(done: float, total: float, message: str = "") -> None:
    """A progress callback that shows nothing."""


def classification(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the model's logits, a scalar."""
    return F.cross_entropy(model(inputs), labels)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; part of what weights are known by.

    Attributes:
        epochs: passes over the training data.
        batch: samples per step.
        rate: highest learning rate of the one-cycle schedule.
        weight_decay: L2 penalty of AdamW or SGD.
        optimiser: ``"sgd"`` or ``"adamw"``.
        shift: training images are rolled by up to this many pixels.
        seed: of initial weights, order of samples and shifts.
    """

    epochs: int
    batch: int = 32
    rate: float = 0.1
    weight_decay: float = 5e-4
    optimiser: str = "sgd"
    shift: int = 2
    seed: int = 0


@dataclass(frozen=True)
class Origin:
    """What trained weights are made from, in words that are the same on every machine.

    Attributes:
        task: name of the function that makes the task.
        settings: its arguments that change the data or the network.
        recipe: see :class:`Recipe`.
    """

    task: str
    settings: Mapping[str, int | float | str]
    recipe: Recipe

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; two origins are the same when theirs are."""
        return {"task": self.task, "settings": dict(self.settings), "recipe": asdict(self.recipe)}


def trained(
    name: str,
    build: Callable[[], nn.Module],
    data: Split,
    origin: Origin,
    progress: Progress,
    *,
    anew: bool = False,
    folder: Path | None = None,
    loss: Loss = classification,
) -> nn.Module:
    """The trained model: the package's weights, else those of the cache, else trained now.

    Args:
        name: file name in the cache.
        build: makes the untrained model; its random weights come from the recipe's seed.
        data: training data.
        origin: see :class:`Origin`.
        progress: called as ``progress(done, total, message)`` while training.
        anew: leave out the package's weights.
        folder: the cache of trained weights; the user's by default.
        loss: what is minimised, called as ``loss(model, inputs, labels)``.

    Raises:
        DataError: the package's weights are damaged.
    """
    recipe = origin.recipe
    with _seeded(recipe.seed):
        model = build()
    state = None if anew else weights.shipped(origin.to_json())
    if state is None:
        folder = folder or cache_dir() / "weights"
        path = folder / f"{name}-{_key(model, data, recipe)}.safetensors"
        wait = "another process trains; waiting for it to end"
        with alone(folder, lambda: progress(0, 1, wait)):
            state = _cached(path, progress)
            if state is None:
                _train(model, data, recipe, progress, loss)
                state = model.state_dict()
                weights.write(path, state, origin.to_json())
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def _key(model: nn.Module, data: Split, recipe: Recipe) -> str:
    """Changes with architecture, initial weights, training data and recipe."""
    parts = {
        "model": hash_tensors(model.state_dict()),
        "structure": str(model),
        "data": hash_tensors({"inputs": data.inputs, "labels": data.labels}),
        "recipe": asdict(recipe),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _cached(path: Path, progress: Progress) -> weights.State | None:
    """Cached weights, or None when there are none or they are damaged."""
    try:
        return weights.read(path)
    except FileNotFoundError:
        return None
    except weights.DamagedError:
        progress(0, 1, f"cached weights {path.name} are damaged: training again")
        return None


def _train(model: nn.Module, data: Split, recipe: Recipe, progress: Progress, loss: Loss) -> None:
    generator = torch.Generator().manual_seed(recipe.seed)
    steps = data.n // recipe.batch
    optimiser = _optimiser(model, recipe)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.rate, total_steps=recipe.epochs * steps
    )
    with _deterministic():
        model.train()
        for epoch in range(recipe.epochs):
            total = 0.0
            order = torch.randperm(data.n, generator=generator)
            for rows in torch.split(order[: steps * recipe.batch], recipe.batch):
                inputs = _shifted(data.inputs[rows], recipe.shift, generator)
                value = loss(model, inputs, data.labels[rows])
                optimiser.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                total += float(value.detach())
            progress(epoch + 1, recipe.epochs, f"epochs, loss {total / steps:.3f}")
        model.eval()


def _optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters, decay = model.parameters(), recipe.weight_decay
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.rate, weight_decay=decay)
    return torch.optim.SGD(
        parameters, lr=recipe.rate, weight_decay=decay, momentum=0.9, nesterov=True
    )


def _shifted(images: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    if shift == 0:
        return images
    rows, columns = torch.randint(-shift, shift + 1, (2,), generator=generator).tolist()
    return torch.roll(images, (rows, columns), (2, 3))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Initial weights come from torch's global generator; it is put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def _deterministic() -> Iterator[None]:
    threads = torch.get_num_threads()
    before = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.set_num_threads(threads)
