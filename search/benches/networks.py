"""Networks with random weights in published shapes, for latency only."""

from __future__ import annotations

from torch import Tensor, nn


def _unit(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(cout),
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al., arXiv 1512.03385)."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = _unit(cin, cout, 3, stride), _unit(cout, cout, 3)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or cin != cout:
            self.shortcut = _unit(cin, cout, 1, stride)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``[n, cin, h, w] -> [n, cout, h/stride, w/stride]``."""
        out: Tensor = self.relu2(self.second(self.relu1(self.first(x))) + self.shortcut(x))
        return out


def resnet18(classes: int = 1000) -> nn.Module:
    """The 21-layer network of the paper, with max pooling behind its stem."""
    stages = ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
    blocks = [
        BasicBlock(cin if first else cout, cout, stride if first else 1)
        for cin, cout, stride in stages
        for first in (True, False)
    ]
    stem = [_unit(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes)]
    return nn.Sequential(*stem, *blocks, *head)


class InvertedResidual(nn.Module):
    """Expansion, depthwise 3x3, projection (Sandler et al., arXiv 1801.04381)."""

    def __init__(self, cin: int, cout: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = cin * expand
        widen = [_unit(cin, hidden, 1), nn.ReLU()] if expand > 1 else []
        depthwise = [_unit(hidden, hidden, 3, stride, hidden), nn.ReLU()]
        self.body = nn.Sequential(*widen, *depthwise, _unit(hidden, cout, 1))
        self.adds = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """``[n, cin, h, w] -> [n, cout, h/stride, w/stride]``."""
        out: Tensor = self.body(x)
        return x + out if self.adds else out


def mobilenet_v2(classes: int = 1000) -> nn.Module:
    """The 53-layer network of the paper at width 1, with ReLU in place of ReLU6."""
    rows = (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
        (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    )  # fmt: skip
    cin, blocks = 32, []
    for expand, cout, repeats, stride in rows:
        for turn in range(repeats):
            blocks.append(InvertedResidual(cin, cout, stride if turn == 0 else 1, expand))
            cin = cout
    stem = [_unit(3, 32, 3, 2), nn.ReLU()]
    head = [_unit(320, 1280, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*stem, *blocks, *head, nn.Linear(1280, classes))
