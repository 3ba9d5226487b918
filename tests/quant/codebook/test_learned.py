"""Learned levels: ordered, and no worse than the uniform grid they start from."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant.codebook.learned import learn_levels
from quant.levels import nearest_level, pick_level

ROWS = hnp.arrays("float32", (2, 9), elements=st.floats(-10, 10, width=16))


def error(x, levels):
    return (pick_level(levels, nearest_level(x, levels)) - x).double().square().sum(1)


def test_without_steps_the_levels_are_the_uniform_grid():
    x = torch.tensor([[-1.0, 0.3, 2.0]])
    levels = learn_levels(x, torch.ones_like(x), 4, steps=0)
    torch.testing.assert_close(levels, torch.tensor([[-1.0, 0.0, 1.0, 2.0]]))


@settings(max_examples=15, deadline=None)
@given(ROWS)
def test_levels_stay_in_order_and_never_lose_against_the_start(values):
    x = torch.from_numpy(values)
    ones = torch.ones_like(x)
    start, end = (learn_levels(x, ones, 4, steps) for steps in (0, 30))
    assert bool((end.diff(dim=1) >= 0).all())
    assert bool((error(x, end) <= error(x, start) * (1 + 1e-4) + 1e-6).all())


def test_learning_finds_separate_clusters():
    x = torch.tensor([[-4.0, -3.9, -3.8, 0.0, 0.1, 5.0, 5.1, 5.2]])
    ones = torch.ones_like(x)
    start, end = (error(x, learn_levels(x, ones, 3, steps)).item() for steps in (0, 150))
    assert end < 0.1 * start


def test_a_constant_slice_is_exact():
    x = torch.full((1, 4), -0.5)
    assert error(x, learn_levels(x, torch.ones_like(x), 4)).item() == 0
