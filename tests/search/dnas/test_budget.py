"""Penalties: values and slopes in closed form, and a budget that is met."""

import math

import pytest
import torch

from quant.errors import UsageError
from search.dnas.budget import AugmentedLagrangian, Barrier, LogProduct, penalty


def slope(keeper, excess, loss=2.0):
    c = torch.tensor(excess, requires_grad=True)
    keeper(torch.tensor(loss), c).backward()
    return float(c.grad)


def test_the_lagrangian_is_silent_within_and_quadratic_beyond():
    keeper = AugmentedLagrangian(rho=4.0)
    assert float(keeper(torch.tensor(2.0), torch.tensor(-0.5))) == 2.0
    assert float(keeper(torch.tensor(2.0), torch.tensor(0.5))) == pytest.approx(2.5)
    assert slope(keeper, -0.5) == 0.0
    assert slope(keeper, 0.5) == pytest.approx(2.0)


def test_its_price_rises_beyond_the_budget_and_falls_to_zero_within():
    keeper = AugmentedLagrangian(rho=4.0, rate=1.0)
    keeper.update(0.5)
    assert keeper.price == 2.0
    assert slope(keeper, 0.0) == pytest.approx(2.0)
    keeper.update(-1.0)
    assert keeper.price == 0.0


def test_the_product_is_the_loss_on_the_budget():
    keeper = LogProduct(gamma=3.0)
    assert float(keeper(torch.tensor(2.0), torch.tensor(0.0))) == pytest.approx(2.0)
    expected = 2.0 * 3 * 1 / (2 * math.log(2))
    assert slope(keeper, 0.0) == pytest.approx(expected)


def test_the_barrier_rises_towards_the_budget_and_goes_on_beyond():
    keeper = Barrier(mu=0.1, margin=0.05)
    assert slope(keeper, -0.5) == pytest.approx(0.2)
    assert slope(keeper, -0.051) == pytest.approx(1.96, abs=0.01)
    assert slope(keeper, -0.049) == pytest.approx(2.04, abs=0.01)
    assert slope(keeper, 0.05) == pytest.approx(6.0)
    values = [float(keeper(torch.tensor(1.0), torch.tensor(c))) for c in (-0.9, -0.1, 0.0, 0.4)]
    assert values == sorted(values)


@pytest.mark.parametrize("name", ["lagrangian", "barrier"])
def test_a_cost_is_brought_to_its_budget(name):
    """Least (x - 3)^2 with x <= 1: the cost x ends on the budget."""
    keeper, x = penalty(name), torch.tensor(3.0, requires_grad=True)
    optimiser = torch.optim.Adam([x], 0.02)
    for _ in range(1500):
        excess = x - 1
        optimiser.zero_grad()
        keeper((x - 3).square(), excess).backward()
        optimiser.step()
        keeper.update(float(excess.detach()))
    assert float(x.detach()) == pytest.approx(1.0, abs=0.05)


def test_an_unknown_penalty_is_told():
    with pytest.raises(UsageError, match="did you mean 'barrier'"):
        penalty("barier")
