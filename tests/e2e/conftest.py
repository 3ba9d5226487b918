"""A study small enough for tests: a tiny trained net on made-up images, no Ray, no download."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.models import TinyConvNet

CLASSES = 3


def make_data(n, seed):
    """Blurred class patterns plus noise; a tiny net learns them in a moment."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    patterns = torch.randn(CLASSES, 1, 8, 8, generator=torch.Generator().manual_seed(99))
    return patterns[labels] + 0.8 * torch.randn(n, 1, 8, 8, generator=generator), labels


@pytest.fixture(scope="session")
def tiny_model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TinyConvNet()
    x, y = make_data(192, 0)
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(40):
        loss = nn.functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def splits():
    return {"calibration": make_data(48, 1), "search": make_data(96, 2), "test": make_data(99, 3)}


def read(path: Path):
    return json.loads(path.read_text())
