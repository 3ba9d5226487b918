"""The two small networks of the shipped tasks; torch.fx can trace and ONNX can export both."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut (He et al., arXiv 1512.03385)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``[n, channels, h, w] -> [n, out, h/stride, w/stride]``."""
        hidden = self.relu1(self.norm1(self.conv1(x)))
        hidden = self.norm2(self.conv2(hidden))
        out: Tensor = self.relu2(hidden + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """Stem, three stages of two residual blocks, pooling and a linear head.

    Args:
        width: channels of the first stage; later stages have 2 and 4 times as many.
        classes: outputs.
    """

    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.stage1 = nn.Sequential(Residual(width, width, 1), Residual(width, width, 1))
        self.stage2 = nn.Sequential(
            Residual(width, 2 * width, 2), Residual(2 * width, 2 * width, 1)
        )
        self.stage3 = nn.Sequential(
            Residual(2 * width, 4 * width, 2), Residual(4 * width, 4 * width, 1)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """``[n, 1, h, w] -> [n, classes]``."""
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        logits: Tensor = self.head(self.flatten(self.pool(x)))
        return logits


class Attention(nn.Module):
    """Multi-head self-attention with separate query, key and value layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """``[n, tokens, width] -> [n, tokens, width]``."""
        query, key, value = self._split(self.query(x)), self.key(x), self._split(self.value(x))
        weights = self.softmax(query @ self._split(key).transpose(2, 3) / math.sqrt(self.size))
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        result: Tensor = self.out(mixed)
        return result

    def _split(self, x: Tensor) -> Tensor:
        heads: Tensor = torch.unflatten(x, 2, (self.heads, self.size)).transpose(1, 2)
        return heads


class Block(nn.Module):
    """Attention and a two-layer perceptron, normalised before each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """``[n, tokens, width] -> [n, tokens, width]``."""
        x = x + self.attention(self.norm1(x))
        result: Tensor = x + self.down(self.act(self.up(self.norm2(x))))
        return result


class VisionTransformer(nn.Module):
    """Patches through a linear layer, transformer blocks, mean over tokens, linear head.

    Args:
        size: height and width of the input image.
        patch: height and width of a patch.
        width: features per token.
        depth: number of blocks.
        heads: attention heads; divides ``width``.
        classes: outputs.
    """

    def __init__(
        self,
        size: int = 32,
        patch: int = 4,
        width: int = 64,
        depth: int = 4,
        heads: int = 4,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.unfold = nn.Unfold(patch, stride=patch)
        self.embed = nn.Linear(patch * patch, width)
        self.position = nn.Parameter(0.02 * torch.randn(1, (size // patch) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """``[n, 1, size, size] -> [n, classes]``."""
        tokens = self.embed(self.unfold(x).transpose(1, 2)) + self.position
        logits: Tensor = self.head(self.norm(self.blocks(tokens)).mean(dim=1))
        return logits
