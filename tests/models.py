"""Tiny networks for tests: convolutional with residuals, and a transformer."""

import torch
from torch import nn

from search.tasks.models import Residual, VisionTransformer


class TinyConvNet(nn.Module):
    """Stem, one strided residual block, one depthwise layer, pooling, head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU()
        )
        self.block = Residual(4, 8, 2)
        self.depthwise = nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.relu(self.depthwise(self.block(self.stem(x))))
        return self.head(torch.flatten(self.pool(x), 1))


def tiny_conv_net(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TinyConvNet().eval().requires_grad_(False)


def tiny_transformer(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VisionTransformer(size=8, patch=4, width=8, depth=1, heads=2, classes=3)
    return model.eval().requires_grad_(False)


IMAGE = torch.zeros(1, 1, 8, 8)
