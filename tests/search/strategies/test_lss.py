import numpy as np
import pytest

from quant.errors import UsageError
from quant.sensitivity.base import ScoreTable
from search.benches.arena import TableArena, replay
from search.strategies.additive import AdditiveStrategy
from search.strategies.base import SearchContext
from search.strategies.lss import LssStrategy
from search.strategies.random import RandomStrategy
from search.tabulated.nets import DATA
from search.tabulated.table import Table
from spaces.constraints import Constraint
from tests.support.toy import ToyCosts, ToyJudge, toy_space

SPACE = toy_space(groups=5, choices=4)
COSTS = ToyCosts(SPACE)
BITS = np.array([2, 3, 4, 5])
HARM = np.array([3.0, 0.5, 2.0, 1.0, 0.2])[:, None] * 4.0**-BITS


class Additive:
    def predict(self, codes):
        harm = HARM[np.arange(5), codes].sum(axis=1)
        return {"kl": harm, "ce": 0.3 + 1.1 * harm, "accuracy": np.exp(-harm)}


def table(surrogate):
    value = np.c_[HARM, np.zeros(5)]
    return ScoreTable("lss", value, value * 0, 0.0, 1.0, surrogate=surrogate)


def started(quality="ce", metrics=("size_bytes",), constraints=(), surrogate=True, **options):
    strategy = LssStrategy(**options)
    strategy.start(
        SearchContext(
            SPACE,
            COSTS,
            {"lss": table(Additive() if surrogate else None)},
            quality,
            metrics,
            constraints,
            np.random.default_rng(0),
            100,
        )
    )
    return strategy


def drained(strategy, n, batch=1, judge=None):
    judge = judge or ToyJudge(SPACE)
    codes = []
    while len(codes) < n and (policies := strategy.ask(min(batch, n - len(codes)))):
        assert len(policies) <= batch
        strategy.tell(judge.evaluate(policies))
        codes += [tuple(int(c) for c in SPACE.codes(policy)) for policy in policies]
    return codes


def test_it_begins_with_the_ends_of_the_surrogates_front():
    assert drained(started(), 2) == [(0,) * 5, (3,) * 5]


@pytest.mark.parametrize("quality", ["ce", "kl", "accuracy"])
@pytest.mark.parametrize("batch", [1, 4])
def test_no_policy_is_asked_twice(quality, batch):
    codes = drained(started(quality, ("size_bytes", "latency_ms")), 60, batch)
    assert len(set(codes)) == len(codes) == 60


def test_failed_evaluations_are_passed_over():
    class Failing(ToyJudge):
        def evaluate(self, policies, split="search"):
            results = super().evaluate(policies, split)
            failed = [r.failure(r.quality_key, r.policy_id, "broken") for r in results]
            return [f if self.calls % 2 else r for f, r in zip(failed, results, strict=True)]

    codes = drained(started(), 30, judge=Failing(SPACE))
    assert len(set(codes)) == 30


def test_everything_failing_is_survived():
    class Broken(ToyJudge):
        def evaluate(self, policies, split="search"):
            results = super().evaluate(policies, split)
            return [r.failure(r.quality_key, r.policy_id, "broken") for r in results]

    assert len(drained(started(), 10, judge=Broken(SPACE))) == 10


def test_a_score_without_a_surrogate_is_refused_with_the_one_that_has_it():
    with pytest.raises(UsageError) as caught:
        started(surrogate=False)
    assert "predicts no whole policies" in str(caught.value)
    assert "fix: score: lss" in str(caught.value)


def test_a_limit_on_a_cost_that_is_not_traded_is_kept():
    table_ = COSTS.table("latency_ms")[:, :4]
    limit = float(table_.min(axis=1).sum() * 1.5)
    codes = drained(started(constraints=(Constraint("latency_ms", limit),)), 20)
    assert len(codes) > 3
    assert (COSTS.costs(np.array(codes))["latency_ms"] <= limit).all()


def test_it_ends_when_nothing_is_left():
    limit = float(COSTS.table("size_bytes")[:, :4].min(axis=1).sum()) + 8
    codes = drained(started(constraints=(Constraint("size_bytes", limit),)), 500)
    every = np.array(list(np.ndindex(4, 4, 4, 4, 4)))
    feasible = every[COSTS.costs(every)["size_bytes"] <= limit]
    assert set(codes) <= {tuple(map(int, row)) for row in feasible}
    assert len(codes) >= 2


def test_on_a_tabulated_net_it_is_ahead_of_random_and_of_the_additive_front():
    arena = TableArena(Table.load(DATA / "conv_long-wa3458.npz"))
    makers = {"lss": LssStrategy, "additive": AdditiveStrategy, "random": RandomStrategy}
    shares = {
        name: np.median([replay(name, make(), arena, seed, 60).share(60) for seed in range(3)])
        for name, make in makers.items()
    }
    assert shares["lss"] > shares["additive"] > shares["random"]
