"""Layers that tests build without a seed of their own are the same in every run."""

import pytest
import torch

torch.manual_seed(0)  # layers built while tests are collected


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
