"""A generator of labelled inputs, trained against the model it will calibrate.

GDFQ (Xu et al., arXiv 2003.03603): ``G(z, y)`` turns noise and a class into an input that the
float model takes for that class (cross-entropy) while its batch norms see their own statistics.
Here the inputs calibrate; fine-tuning on them is a matter of training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.errors import DataError
from quant.zero_shot.norms import watched

_STEPS = 150
_BATCH = 40
_RATE = 3e-3
_NOISE = 32
_NORM_WEIGHT = 0.3


@dataclass(frozen=True)
class Generated:
    """What a generator makes.

    Attributes:
        inputs: ``[n, *shape]``.
        labels: the class each was asked to be, ``[n]``.
    """

    inputs: Tensor
    labels: Tensor


class Generator(nn.Module):
    """Noise and a class to an input: a linear layer, for images then two upsampling steps.

    Args:
        shape: of one input; three axes are taken for an image.
        classes: number of classes.
    """

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self._shape = shape
        self.embed = nn.Embedding(classes, _NOISE)
        image = len(shape) == 3
        self._small = (32, -(-shape[1] // 4), -(-shape[2] // 4)) if image else (64,)
        self.first = nn.Linear(_NOISE, math.prod(self._small))
        self.rest: nn.Module = nn.Sequential(nn.ReLU(), nn.Linear(64, math.prod(shape)))
        if image:
            self.rest = nn.Sequential(
                nn.GroupNorm(4, 32), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2),
                nn.Conv2d(32, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.LeakyReLU(0.2),
                nn.Upsample(scale_factor=2), nn.Conv2d(32, shape[0], 3, padding=1),
            )  # fmt: skip

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """``[n, 32], [n] -> [n, *shape]``."""
        hidden = self.first(noise * self.embed(labels))
        made: Tensor = self.rest(hidden.reshape(-1, *self._small))
        if len(self._shape) == 3:
            made = made[..., : self._shape[1], : self._shape[2]]
        return made.reshape(-1, *self._shape)


def generate(
    model: nn.Module,
    shape: tuple[int, ...],
    samples: int,
    generator: torch.Generator,
    *,
    steps: int = _STEPS,
) -> Generated:
    """Trains a generator for ``model`` and draws labelled inputs, classes in equal shares.

    Args:
        model: trained classifier ``[n, *shape] -> [n, classes]``; not changed.
        shape: of one input.
        samples: how many to draw.
        generator: source of initial weights, noise and labels.
        steps: of Adam on the generator.

    Raises:
        DataError: the model has no batch norms with running statistics, or is no classifier.
    """
    with watched(model) as (frozen, gap):
        classes = _classes(frozen, shape)
        gap.value()
        net = _seeded(Generator(shape, classes), generator)
        optimizer = torch.optim.Adam(net.parameters(), lr=_RATE)
        for _ in range(steps):
            labels = torch.randint(classes, (_BATCH,), generator=generator)
            noise = torch.randn(_BATCH, _NOISE, generator=generator)
            with torch.enable_grad():
                logits = frozen(net(noise, labels))
                loss = F.cross_entropy(logits, labels) + _NORM_WEIGHT * gap.value()
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        labels = torch.arange(samples) % classes
        noise = torch.randn(samples, _NOISE, generator=generator)
        with torch.no_grad():
            return Generated(net(noise, labels), labels)


@torch.no_grad()
def _classes(model: nn.Module, shape: tuple[int, ...]) -> int:
    logits = model(torch.zeros(1, *shape))
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise DataError(
            "a generator needs a classifier",
            expected="a model that returns logits [n, classes]",
            fix="calibration: distilled, which needs batch norms only",
        )
    return logits.shape[1]


@torch.no_grad()
def _seeded(net: Generator, generator: torch.Generator) -> Generator:
    """Draws the weights anew, from the generator that was passed in; biases are 0."""
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.dim() > 1:
            wide = name.startswith("embed")
            scale = 1.0 if wide else math.sqrt(parameter[0].numel())
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / scale)
    return net
