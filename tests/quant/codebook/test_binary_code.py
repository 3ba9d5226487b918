"""Binary codes: closed forms, brute force and what alternation promises."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant.affine import fake_quantize
from quant.codebook import fit
from quant.codebook.binary_code import alternating_bases, greedy_bases
from quant.formats import parse_format

ROWS = hnp.arrays("float32", (2, 10), elements=st.floats(-10, 10, width=16))


def error(x, text):
    qparams = fit(x, torch.ones_like(x), parse_format(text))
    return (fake_quantize(x, qparams) - x).double().square().sum(1)


def test_one_basis_is_the_mean_magnitude():
    x = torch.tensor([[1.0, -2.0, 3.0, -4.0]])
    ones = torch.ones_like(x)
    assert greedy_bases(x, ones, 1).item() == 2.5
    assert alternating_bases(x, ones, 1).item() == pytest.approx(2.5)


def test_greedy_bases_are_means_of_residuals():
    x = torch.tensor([[4.0, -4.0, 1.0, 1.0]])
    alphas = greedy_bases(x, torch.ones_like(x), 2)
    assert alphas.tolist() == [[2.5, 1.5]]  # residuals 1.5, -1.5, -1.5, -1.5


@pytest.mark.parametrize("bits", [2, 3])
def test_alternation_is_near_the_best_codes_of_a_small_slice(bits):
    x = torch.randn(1, 5, generator=torch.Generator().manual_seed(bits)).double()
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=5))).double()
    best = torch.inf
    for picked in itertools.combinations(signs, bits):
        basis = torch.stack(picked, dim=1)
        solved = basis @ (torch.linalg.pinv(basis) @ x[0])
        best = min(best, (solved - x[0]).square().sum().item())
    found = error(x, f"bc{bits}").item()
    assert found >= best - 1e-9
    assert found <= error(x, f"bcg{bits}").item() + 1e-12
    assert found <= best + 0.15 * x.square().sum().item()


@given(ROWS, st.integers(2, 3))
def test_alternation_never_increases_the_error(values, bits):
    x = torch.from_numpy(values).double()
    ones = torch.ones_like(x)
    losses = []
    for rounds in (0, 1, 3, 10):
        alphas = alternating_bases(x, ones, bits, rounds)
        patterns = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=bits))).double()
        levels = alphas @ patterns.T
        losses.append((x[:, :, None] - levels[:, None]).abs().amin(2).square().sum().item())
    slack = 1e-6 * (1 + losses[0])
    assert all(b <= a + slack for a, b in itertools.pairwise(losses))


@given(ROWS)
def test_more_bases_never_hurt(values):
    x = torch.from_numpy(values)
    slack = 1e-4 * (1 + x.double().square().sum(1))
    assert bool((error(x, "bcg4") <= error(x, "bcg2") + slack).all())


def test_weights_decide_where_the_error_goes():
    x = torch.tensor([[1.0, 1.0, 1.0, 9.0]])
    heavy = torch.tensor([[1.0, 1.0, 1.0, 99.0]])
    assert alternating_bases(x, heavy, 1).item() > alternating_bases(x, heavy * 0 + 1, 1).item()
