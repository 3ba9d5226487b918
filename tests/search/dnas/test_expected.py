"""Expected costs: those of a policy where shares are one choice, and the mean over draws else."""

import itertools

import numpy as np
import pytest
import torch

from search.dnas.expected import ExpectedCost
from tests.support.toy import ToyCosts, toy_space

SPACE = toy_space(groups=3, choices=3)


class PairCosts(ToyCosts):
    """A sum with terms between neighbours that differ, and a maximum."""

    metrics = ("size_bytes", "latency_ms", "peak_bytes")

    def table(self, metric):
        return super().table("size_bytes" if metric == "peak_bytes" else metric)

    def costs(self, codes):
        found = super().costs(codes)
        differ = (codes[:, 1:] != codes[:, :-1]).sum(axis=1)
        rows = np.arange(len(self.space.groups))
        peak = self.table("size_bytes")[rows, codes].max(axis=1)
        return {**found, "latency_ms": found["latency_ms"] + 0.01 * differ, "peak_bytes": peak}


COSTS = PairCosts(SPACE)
EVERY = np.array(list(itertools.product(range(3), repeat=3)))


@pytest.mark.parametrize("metric", ["size_bytes", "latency_ms"])
def test_one_choice_each_costs_what_the_policy_costs(metric):
    expected = ExpectedCost(COSTS, SPACE, metric)
    for codes, cost in zip(EVERY, COSTS.costs(EVERY)[metric], strict=True):
        shares = torch.nn.functional.one_hot(torch.from_numpy(codes), 3).float()
        assert expected(shares).item() == pytest.approx(cost, rel=1e-5)
    assert len(expected.pairs) == (2 if metric == "latency_ms" else 0)


@pytest.mark.parametrize("metric", ["size_bytes", "latency_ms"])
def test_shares_cost_the_mean_over_their_policies(metric):
    shares = torch.rand(3, 3, generator=torch.Generator().manual_seed(0))
    shares = shares / shares.sum(1, keepdim=True)
    chance = np.prod(shares.numpy()[np.arange(3), EVERY], axis=1)
    mean = float((chance * COSTS.costs(EVERY)[metric]).sum())
    assert ExpectedCost(COSTS, SPACE, metric)(shares).item() == pytest.approx(mean, rel=1e-5)


def test_its_gradient_is_that_of_finite_differences():
    expected = ExpectedCost(COSTS, SPACE, "latency_ms")
    shares = torch.full((3, 3), 1 / 3, requires_grad=True)
    expected(shares).backward()
    for group, choice in itertools.product(range(3), repeat=2):
        ends = []
        for sign in (1, -1):
            moved = shares.detach().clone()
            moved[group, choice] += sign * 0.01
            ends.append(expected(moved).item())
        numeric = (ends[0] - ends[1]) / 0.02
        assert shares.grad[group, choice].item() == pytest.approx(numeric, rel=1e-2, abs=1e-5)


def test_a_maximum_is_a_smooth_one():
    expected = ExpectedCost(COSTS, SPACE, "peak_bytes")
    codes = torch.tensor([0, 1, 2])
    found = expected(torch.nn.functional.one_hot(codes, 3).float()).item()
    true = COSTS.costs(codes.numpy()[None, :])["peak_bytes"][0]
    assert true <= found * (1 + 1e-6) <= 1.05 * true
