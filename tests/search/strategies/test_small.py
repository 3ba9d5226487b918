"""Strategies of few lines: exhaustive, greedy, clado, evopress."""

import itertools

import numpy as np
import pytest

from quant.errors import UsageError
from quant.sensitivity.base import ScoreTable
from search.strategies.base import SearchContext
from search.strategies.clado import CladoStrategy
from search.strategies.evopress import EvopressStrategy
from search.strategies.exhaustive import ExhaustiveStrategy
from search.strategies.greedy import GreedyStrategy
from spaces.constraints import Constraint
from tests.support.toy import ToyCosts, ToyJudge, toy_space

SPACE = toy_space(groups=4, choices=3)
COSTS = ToyCosts(SPACE)
SCORE = np.array([[4.0, 2, 1], [9, 3, 1], [8, 5, 2], [7, 6, 5]])


class Quadratic:
    """A loss in which low bits of neighbours hurt more together."""

    def predict(self, codes):
        own = SCORE[np.arange(4), codes]
        return {"ce": own.sum(axis=1) + (own[:, 1:] * own[:, :-1]).sum(axis=1)}


def table(surrogate=None):
    return ScoreTable("any", SCORE, SCORE * 0, 0.0, 1.0, surrogate=surrogate)


def started(strategy, constraints=(), surrogate=None, metrics=("size_bytes",)):
    scores = {kind: table(surrogate) for kind in strategy.needs()}
    strategy.start(
        SearchContext(
            SPACE, COSTS, scores, "ce", metrics, constraints, np.random.default_rng(0), 100
        )
    )
    return strategy


def drained(strategy, n=500, batch=4):
    codes = []
    judge = ToyJudge(SPACE)
    while len(codes) < n and (policies := strategy.ask(batch)):
        strategy.tell(judge.evaluate(policies))
        codes += [tuple(int(c) for c in SPACE.codes(policy)) for policy in policies]
    return codes


def test_exhaustive_asks_for_every_policy_once_cheapest_and_dearest_first():
    codes = drained(started(ExhaustiveStrategy()))
    assert len(codes) == 81
    assert len(set(codes)) == 81
    assert codes[:2] == [(0, 0, 0, 0), (2, 2, 2, 2)]


def test_exhaustive_asks_for_feasible_policies_only():
    limit = float(np.median(COSTS.costs(np.array(list(np.ndindex(3, 3, 3, 3))))["size_bytes"]))
    codes = np.array(drained(started(ExhaustiveStrategy(), (Constraint("size_bytes", limit),))))
    assert 0 < len(codes) < 81
    assert (COSTS.costs(codes)["size_bytes"] <= limit).all()


def test_exhaustive_refuses_a_large_space_with_its_size_and_what_to_do():
    with pytest.raises(UsageError) as caught:
        ExhaustiveStrategy().check(toy_space(groups=8, choices=4))
    message = str(caught.value)
    assert "65,536 policies" in message
    assert "at most 20,000" in message
    assert "strategy=lss" in message
    ExhaustiveStrategy().check(toy_space(groups=7, choices=4))


def test_greedy_by_amp_takes_the_least_added_score_next():
    path = sorted(drained(started(GreedyStrategy("kl", "amp"))), key=lambda codes: -sum(codes))
    assert path[0] == (2, 2, 2, 2)
    score = [SCORE[range(4), codes].sum() for codes in path]
    # By hand: 1 (layer 0), 1 (layer 3), 1 (layer 3 again), 2, 2, 3, 3, 6.
    assert np.allclose(np.diff(score), [1, 1, 1, 2, 2, 3, 3, 6])


def test_greedy_per_cost_ends_at_the_cheapest_policy_too():
    for rule in ("amp", "per_cost"):
        assert (0, 0, 0, 0) in drained(started(GreedyStrategy("kl", rule)))


def test_greedy_refuses_another_rule():
    with pytest.raises(UsageError, match="did you mean 'amp'"):
        GreedyStrategy(rule="amb")


def test_clado_asks_for_the_front_of_its_quadratic():
    codes = drained(started(CladoStrategy("clado"), surrogate=Quadratic()))
    every = np.array(list(itertools.product(range(3), repeat=4)))
    loss, cost = Quadratic().predict(every)["ce"], COSTS.costs(every)["size_bytes"]
    points = np.stack([loss, cost], axis=1)
    best = [p for p in points if not ((points <= p).all(axis=1) & (points < p).any(axis=1)).any()]
    found = [
        (Quadratic().predict(np.array([c]))["ce"][0], COSTS.costs(np.array([c]))["size_bytes"][0])
        for c in codes
    ]
    assert {tuple(p) for p in best} == set(found)


def test_clado_refuses_a_score_that_predicts_no_policies():
    with pytest.raises(UsageError, match="predicts no whole policies"):
        started(CladoStrategy("kl"))


def test_evopress_keeps_every_budget_and_improves_every_parent():
    strategy = started(EvopressStrategy(budgets=3, offspring=4))
    first = {line.budget: None for line in strategy._lines}
    drained(strategy, 30)
    assert len(first) == 3
    for line in strategy._lines:
        parent = line.codes(line.parent)
        assert COSTS.costs(parent[None, :])["size_bytes"][0] <= line.budget
        assert line.loss == pytest.approx(ToyJudge(SPACE).loss(parent))


def test_evopress_offspring_are_raised_somewhere_and_lowered_elsewhere():
    strategy = started(EvopressStrategy(budgets=1, switches=1))
    line = strategy._lines[0]
    for _ in range(20):
        moved = strategy._switched(line) - line.parent
        assert (moved > 0).sum() <= 1
        assert moved.max() <= 1


def test_evopress_ends_when_nothing_new_is_left():
    codes = drained(started(EvopressStrategy()), 500)
    assert len(codes) == len(set(codes)) <= 81


def test_evopress_refuses_numbers_below_one():
    with pytest.raises(UsageError, match="expected: at least 1 each"):
        EvopressStrategy(offspring=0)
