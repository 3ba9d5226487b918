"""Small networks shared by the tests of this room."""

from dataclasses import dataclass

import torch
from torch import nn

from quant.formats import Format, parse_format


@dataclass(frozen=True)
class Take:
    """A layer choice."""

    weight: Format
    activation: Format
    method: str = ""


def take(weight="float32", activation="float32", method=""):
    """Reads a choice from text."""
    return Take(parse_format(weight), parse_format(activation), method)


class Residual(nn.Module):
    """Two convolutions with norms around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        inner = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(x + self.bn2(self.conv2(inner)))


def residual_net(seed: int = 0, channels: int = 8) -> nn.Module:
    """Convolutions, norms, a residual block and a head; norms hold random statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            Residual(channels),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * channels, 5),
        )
        return randomise_norms(net).eval()


def randomise_norms(net: nn.Module) -> nn.Module:
    """Gives every batch norm statistics and affine parameters away from their defaults."""
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            if module.running_mean is not None:
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return net


def images(count: int = 6, seed: int = 0, channels: int = 1, size: int = 8) -> torch.Tensor:
    """Random inputs ``[count, channels, size, size]``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, size, size, generator=generator)
