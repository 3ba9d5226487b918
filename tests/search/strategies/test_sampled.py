"""Samplers of Optuna under hard limits, and what they are told."""

import itertools

import numpy as np
import optuna
import pytest

from quant.errors import InfeasibleError
from search.records import Result
from search.strategies.base import SearchContext
from search.strategies.gp import GpStrategy
from search.strategies.nsga2 import Nsga2Strategy
from search.strategies.tpe import TpeStrategy
from search.trial import trial_rng
from spaces.constraints import Constraint
from tests.contracts.test_strategies import AnyScore
from tests.support.toy import ToyCosts, ToyJudge, toy_space, toy_trainable

SPACE = toy_space(groups=4, choices=4)
COSTS = ToyCosts(SPACE)
ALL = np.array(list(itertools.product(range(4), repeat=4)))
KINDS = [Nsga2Strategy, TpeStrategy, GpStrategy]


def started(strategy, *limits, seed=0):
    strategy.start(
        SearchContext(
            SPACE, COSTS, AnyScore(), "ce", ("size_bytes", "latency_ms"), limits,
            trial_rng("sampled", seed), 20, toy_trainable(SPACE),
        )
    )  # fmt: skip
    return strategy


def limits(share):
    for metric in ("size_bytes", "latency_ms"):
        cost = COSTS.costs(ALL)[metric]
        yield Constraint(metric, float(np.quantile(cost, share)))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_the_nearest_policy_within_all_limits_is_taken(share):
    strategy = started(Nsga2Strategy(), *limits(share))
    inside = ALL[strategy.context.feasible(ALL)]
    for drawn in ALL[::17]:
        found = strategy._nearest(drawn)
        assert strategy.context.feasible(found)[0]
        assert np.abs(found - drawn).sum() == np.abs(inside - drawn).sum(axis=1).min()


def test_limits_nothing_satisfies_are_named():
    low = COSTS.costs(ALL)["size_bytes"].min()
    strategy = started(Nsga2Strategy(), Constraint("size_bytes", low / 2))
    with pytest.raises(InfeasibleError) as caught:
        strategy.ask(1)
    assert "size_bytes" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_sampler_hears_of_what_was_evaluated_and_of_nothing_beyond_a_limit(kind):
    strategy, judge = started(kind(), *limits(0.02)), ToyJudge(SPACE)
    evaluated = []
    for _ in range(3):
        policies = strategy.ask(2)
        strategy.tell(judge.evaluate(policies))
        evaluated += [tuple(SPACE.codes(policy)) for policy in policies]
    complete = (optuna.trial.TrialState.COMPLETE,)
    heard = strategy._study.get_trials(states=complete)
    told = sorted((*(t.params[str(g)] for g in range(4)), *t.values[1:]) for t in heard)
    costs = COSTS.costs(np.array(evaluated))
    expected = zip(evaluated, costs["size_bytes"], costs["latency_ms"], strict=True)
    assert told == sorted((*codes, size, latency) for codes, size, latency in expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_candidate_that_failed_is_told_as_failed(kind):
    strategy, judge = started(kind()), ToyJudge(SPACE)
    (result,) = judge.evaluate(strategy.ask(1))
    strategy.tell([Result.failure(result.quality_key, result.policy_id, "no memory")])
    assert [t.state for t in strategy._study.trials] == [optuna.trial.TrialState.FAIL]
