"""Nets of seven quantizable layers, one a stage, small enough to evaluate every policy.

A net is a chain of stages and what passes between two stages is all that the later one needs.
The output of a stage is therefore shared by all policies that agree up to it, and 4^7 policies
take 21,844 layer calls instead of 114,688.

Constants of strategies were chosen on the convolutional nets only; figures are quoted on the
token nets.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from quant.errors import unknown
from search.tasks.base import Task, make_task
from search.tasks.digits import noisy_digits
from search.tasks.training import Origin, Progress, Recipe, trained

DATA = Path(__file__).parent / "data"
SIDE, PATCH, CLASSES = 8, 2, 10
TOKENS, FEATURES = (SIDE // PATCH) ** 2, PATCH**2

Pair = tuple[Tensor, Tensor]


class Convolution(nn.Module):
    """3x3 convolution, batch norm, ReLU: ``[n, in, h, w] -> [n, out, h/stride, w/stride]``."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return F.relu(self.norm(self.conv(x)))


class ResidualFirst(Convolution):
    """First half of a residual block; passes its input on for the addition."""

    def forward(self, x: Tensor) -> Pair:  # type: ignore[override]
        """``x -> (hidden, x)``."""
        return super().forward(x), x


class ResidualSecond(Convolution):
    """Second half of a residual block."""

    def forward(self, state: Pair) -> Tensor:  # type: ignore[override]
        """``(hidden, x) -> relu(norm(conv(hidden)) + x)``."""
        hidden, x = state
        return F.relu(self.norm(self.conv(hidden)) + x)


class PooledHead(nn.Module):
    """Mean over positions, then a linear layer: ``[n, c, h, w] -> [n, classes]``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


class Embed(nn.Module):
    """Patches through a linear layer plus positions: ``[n, 1, s, s] -> [n, tokens, width]``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.unfold = nn.Unfold(PATCH, stride=PATCH)
        self.linear = nn.Linear(FEATURES, width)
        self.position = nn.Parameter(0.02 * torch.randn(1, TOKENS, width))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        tokens: Tensor = self.linear(self.unfold(x).transpose(1, 2)) + self.position
        return tokens


class AttentionFirst(nn.Module):
    """Query, key and value of normalised tokens in one linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, 3 * width)

    def forward(self, x: Tensor) -> Pair:
        """``x -> (query | key | value, x)``."""
        return self.linear(self.norm(x)), x


class AttentionSecond(nn.Module):
    """Attention and its output layer, added to the tokens."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.linear = nn.Linear(width, width)

    def forward(self, state: Pair) -> Tensor:
        """``(query | key | value, x) -> x + out(attention)``."""
        joint, x = state
        query, key, value = (self._split(part) for part in joint.chunk(3, dim=2))
        weights = (query @ key.transpose(2, 3) / math.sqrt(self.size)).softmax(dim=-1)
        mixed: Tensor = x + self.linear((weights @ value).transpose(1, 2).flatten(2))
        return mixed

    def _split(self, x: Tensor) -> Tensor:
        heads: Tensor = torch.unflatten(x, 2, (self.heads, self.size)).transpose(1, 2)
        return heads


class PerceptronFirst(nn.Module):
    """First layer of a perceptron over features, or over tokens when ``across``."""

    def __init__(self, width: int, inputs: int, hidden: int, *, across: bool = False) -> None:
        super().__init__()
        self.across = across
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(inputs, hidden)

    def forward(self, x: Tensor) -> Pair:
        """``x -> (hidden, x)``."""
        inputs = self.norm(x).transpose(1, 2) if self.across else self.norm(x)
        return F.gelu(self.linear(inputs)), x


class PerceptronSecond(nn.Module):
    """Second layer of a perceptron, added to the tokens."""

    def __init__(self, hidden: int, outputs: int, *, across: bool = False) -> None:
        super().__init__()
        self.across, self.linear = across, nn.Linear(hidden, outputs)

    def forward(self, state: Pair) -> Tensor:
        """``(hidden, x) -> x + out(hidden)``."""
        hidden, x = state
        out = self.linear(hidden)
        mixed: Tensor = x + (out.transpose(1, 2) if self.across else out)
        return mixed


class Pool(nn.Module):
    """Mean over normalised tokens, one hidden layer: ``[n, tokens, width] -> [n, width]``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return F.relu(self.linear(self.norm(x).mean(dim=1)))


class Staged(nn.Sequential):
    """Stages of one quantizable layer each."""


def convolutional(width: int) -> Staged:
    """Two residual blocks."""
    wide = 2 * width
    return Staged(
        Convolution(1, width),
        ResidualFirst(width, width),
        ResidualSecond(width, width),
        Convolution(width, wide, stride=2),
        ResidualFirst(wide, wide),
        ResidualSecond(wide, wide),
        PooledHead(wide),
    )


def transformer(width: int) -> Staged:
    """One transformer block over 16 patches."""
    return Staged(
        Embed(width),
        AttentionFirst(width),
        AttentionSecond(width),
        PerceptronFirst(width, width, 2 * width),
        PerceptronSecond(2 * width, width),
        Pool(width),
        nn.Linear(width, CLASSES),
    )


def mixer(width: int) -> Staged:
    """One MLP-mixer block (Tolstikhin et al., arXiv 2105.01601) over 16 patches."""
    return Staged(
        Embed(width),
        PerceptronFirst(width, TOKENS, 2 * TOKENS, across=True),
        PerceptronSecond(2 * TOKENS, TOKENS, across=True),
        PerceptronFirst(width, width, 2 * width),
        PerceptronSecond(2 * width, width),
        Pool(width),
        nn.Linear(width, CLASSES),
    )


@dataclass(frozen=True)
class Net:
    """A net and how it is trained.

    Attributes:
        family: ``"conv"`` (constants may be chosen on it) or ``"token"`` (figures are quoted
            on it).
        build: makes the untrained net.
        noise: standard deviation of the noise on images in 0..1.
        recipe: of the training.
    """

    family: str
    build: Callable[[], Staged]
    noise: float
    recipe: Recipe


_ADAM = {"rate": 4e-3, "weight_decay": 0.0, "optimiser": "adamw", "shift": 0}
NETS = {
    "conv_short": Net("conv", partial(convolutional, 12), 0.25, Recipe(10, shift=0)),
    "conv_long": Net("conv", partial(convolutional, 12), 0.25, Recipe(40, shift=0, seed=1)),
    "vit": Net("token", partial(transformer, 32), 0.15, Recipe(60, **_ADAM)),  # type: ignore[arg-type]
    "mixer": Net("token", partial(mixer, 32), 0.15, Recipe(60, **_ADAM)),  # type: ignore[arg-type]
}


def silent(done: float, total: float, message: str = "") -> None:
    """A progress callback that shows nothing."""


def train(name: str, progress: Progress = silent) -> None:
    """Trains a net anew and writes its weights to ``data/<name>.safetensors``."""
    net = _net(name)
    splits = noisy_digits(net.noise, SIDE)
    origin = Origin(f"tabulated {name}", {"noise": net.noise}, net.recipe)
    with tempfile.TemporaryDirectory() as folder:
        model = trained(
            name, net.build, splits["train"], origin, progress, anew=True, folder=Path(folder)
        )
    save_file(model.state_dict(), DATA / f"{name}.safetensors")


def tabulated_task(name: str) -> Task:
    """A net with its stored weights and its data: what a method that needs the model takes.

    Raises:
        UsageError: not one of :data:`NETS`.
    """
    net = _net(name)
    model = net.build()
    model.load_state_dict(load_file(DATA / f"{name}.safetensors"))
    model.eval().requires_grad_(False)
    splits = noisy_digits(net.noise, SIDE)
    title = f"digits {SIDE}x{SIDE}, noise {net.noise:g}; {name}"
    return make_task(name, title, model, splits, classes=CLASSES, batch_size=400)


def _net(name: str) -> Net:
    if name not in NETS:
        raise unknown("net", name, NETS)
    return NETS[name]
