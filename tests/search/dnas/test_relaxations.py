"""Shares of choices: sums, limits, gradients in closed form or against finite differences."""

import math

import pytest
import torch

from quant.errors import UsageError
from search.dnas.relaxations import (
    RELAXATIONS,
    Fractional,
    Gated,
    Ladder,
    LearnedRange,
    entropy,
    hats,
    relaxation,
)

ORDER = torch.tensor([[0, 1, 2, 3], [2, 0, 1, 1]])
SIZES = torch.tensor([4, 3])
BITS = torch.tensor([[2.0, 3.0, 4.0, 8.0], [4.0, 8.0, 2.0, 0.0]])
LADDER = Ladder(ORDER, SIZES, BITS)
HARM = torch.tensor([[1.0, 0.5, 0.2, 0.0], [0.4, 0.1, 0.9, 0.0]])
NAMES = sorted(RELAXATIONS)
SMOOTH = ["softmax", "fractional", "gated", "learned_range"]


def made(name, seed=0):
    found = relaxation(name, LADDER, torch.Generator().manual_seed(seed))
    found.start(HARM)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_shares_sum_to_one_and_padding_has_none(name):
    found = made(name)
    for temperature in (1.0, 0.2):
        for shares in (found.shares(temperature), found.settled(temperature)):
            assert shares.shape == (2, 4)
            assert torch.allclose(shares.sum(1), torch.ones(2), atol=1e-5)
            assert (shares >= -1e-6).all()
            assert shares[1, 3] == 0


@pytest.mark.parametrize("name", NAMES)
def test_every_free_number_that_matters_gets_a_gradient(name):
    found = made(name)
    weight = torch.randn(2, 4, generator=torch.Generator().manual_seed(3))
    (found.settled(1.0) * weight).sum().backward()
    gradients = [p.grad for p in found.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    assert all((g.abs().sum(dim=tuple(range(1, g.dim()))) > 0).all() for g in gradients)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_those_of_finite_differences(name):
    found = made(name).double()
    with torch.no_grad():  # away from the ends and corners of the ladders
        for parameter in found.parameters():
            parameter.mul_(0.77).add_(0.03)
    weight = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    (found.settled(0.7) * weight).sum().backward()
    for parameter in found.parameters():
        for index in range(parameter.numel()):
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter.view(-1)[index] += sign * 1e-5
                    ends.append(float((found.settled(0.7) * weight).sum()))
                    parameter.view(-1)[index] -= sign * 1e-5
            numeric = (ends[0] - ends[1]) / 2e-5
            assert float(parameter.grad.view(-1)[index]) == pytest.approx(numeric, abs=1e-6)


@pytest.mark.parametrize("name", ["softmax", "gumbel"])
def test_a_cold_temperature_gives_one_choice(name):
    found = made(name)
    assert found.settled(1e-4).max(1).values.min().item() > 0.999
    if name == "gumbel":
        assert found.shares(1e-5).max(1).values.min().item() > 0.99


@pytest.mark.parametrize("name", ["softmax", "gumbel"])
def test_equal_choices_get_equal_shares(name):
    found = relaxation(name, LADDER, torch.Generator().manual_seed(0))
    found.start(torch.zeros(2, 4))
    settled = found.settled(0.5)
    assert torch.allclose(settled[0], torch.full((4,), 0.25))
    assert torch.allclose(settled[1, :3], torch.full((3,), 1 / 3))


def test_gumbel_draws_choices_as_often_as_their_shares():
    found = relaxation("gumbel", LADDER, torch.Generator().manual_seed(0))
    with torch.no_grad():
        found.logits.copy_(torch.tensor([[2.0, 0.0, -1.0, 1.0], [0.0, 1.0, 2.0, 0.0]]))
    picked = torch.stack([found.shares(0.5).argmax(1) for _ in range(4000)])
    share = torch.bincount(picked[:, 0], minlength=4) / 4000
    assert torch.allclose(share, found.settled(1.0)[0].detach(), atol=0.03)


def test_a_fraction_lies_between_its_two_neighbours():
    found = Fractional(LADDER, torch.Generator())
    with torch.no_grad():
        found.place.copy_(torch.tensor([1.25, 0.5]))
    # The second ladder runs over choices 2, 0, 1.
    assert torch.allclose(found.shares(1.0), torch.tensor([[0, 0.75, 0.25, 0], [0.5, 0, 0.5, 0]]))


def test_positions_beyond_an_end_stay_there_and_can_come_back():
    place = torch.tensor([9.0, -2.0], requires_grad=True)
    shares = hats(place, LADDER)
    assert shares[0].tolist() == [0, 0, 0, 1]
    assert shares[1].tolist() == [1, 0, 0, 0]
    (shares * torch.arange(4.0)).sum().backward()
    assert (place.grad != 0).all()


def test_gates_are_the_nested_sum_of_residuals():
    """p of a chain of gates is what x2 + g4 (e4 + g8 e8) weighs its levels with."""
    found = Gated(LADDER, torch.Generator())
    with torch.no_grad():
        found.gates.copy_(torch.tensor([[0.3, -0.4, 0.8], [0.1, 0.2, 5.0]]))
    levels = torch.tensor([1.0, 5.0, 6.0, 9.0])
    opened = (torch.sigmoid(found.gates) * 1.2 - 0.1).clamp(0, 1)
    g1, g2, g3 = opened[0]
    nested = levels[0] + g1 * (
        (levels[1] - levels[0]) + g2 * ((levels[2] - levels[1]) + g3 * (levels[3] - levels[2]))
    )
    mixed = (found.settled(1.0)[0] * levels).sum()
    assert mixed.item() == pytest.approx(nested.item(), rel=1e-6)
    with torch.no_grad():
        found.gates.fill_(50.0)
    assert torch.allclose(found.settled(1.0), torch.tensor([[0, 0, 0, 1.0], [0, 1.0, 0, 0]]))


def test_a_learned_range_tells_its_width():
    found = LearnedRange(LADDER, torch.Generator())
    with torch.no_grad():
        found.log_range.copy_(torch.tensor([0.0, 0.0]))
        found.log_step.copy_(-torch.log2(torch.tensor([2.0**3 - 1, 2.0**2 - 1])))
    assert torch.allclose(found.width, torch.tensor([4.0, 3.0]))
    # 4 bits are the third choice of the first group; 3 lie between 2 and 4 in the second.
    assert torch.allclose(
        found.shares(1.0), torch.tensor([[0, 0, 1.0, 0], [0.5, 0, 0.5, 0]]), atol=1e-5
    )


def test_entropy_is_one_for_equal_shares_and_zero_for_one_choice():
    assert float(entropy(torch.full((3, 4), 0.25))) == pytest.approx(1.0)
    assert float(entropy(torch.eye(4))) == pytest.approx(0.0, abs=1e-9)
    assert math.isfinite(float(entropy(torch.zeros(1, 4))))


def test_an_unknown_relaxation_is_told_with_the_nearest():
    with pytest.raises(UsageError, match=r"(?s)unknown relaxation.*did you mean 'gumbel'"):
        relaxation("gumble", LADDER, torch.Generator())
