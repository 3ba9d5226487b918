"""Scores as calibration data can make them: negative, NaN, all zero."""

import warnings

import numpy as np
import pytest

from quant.errors import UsageError
from quant.sensitivity.base import ScoreTable
from search.strategies.additive import AdditiveStrategy
from search.strategies.base import SearchContext
from search.strategies.clado import CladoStrategy
from search.strategies.greedy import GreedyStrategy
from search.strategies.hawq import HawqStrategy
from search.strategies.lss import LssStrategy
from tests.support.toy import ToyCosts, toy_space

SPACE = toy_space(groups=4, choices=3)
COSTS = ToyCosts(SPACE)
MAKERS = [AdditiveStrategy, GreedyStrategy, HawqStrategy, LssStrategy, CladoStrategy]


class Sum:
    def __init__(self, value):
        self.value = value

    def predict(self, codes):
        total = self.value[np.arange(4), codes].sum(axis=1)
        return {"kl": np.maximum(total, 0), "ce": 0.5 + total, "accuracy": np.exp(-total)}


def first(maker, value, n=3):
    strategy = maker()
    table = ScoreTable("any", value, value * 0, 0.0, 1.0, surrogate=Sum(value))
    strategy.start(
        SearchContext(
            SPACE,
            COSTS,
            dict.fromkeys(strategy.needs(), table),
            "ce",
            ("size_bytes",),
            (),
            np.random.default_rng(0),
            10,
        )
    )
    return [SPACE.codes(policy) for policy in strategy.ask(n)]


def scores(**changes):
    value = np.tile([0.9, 0.3, 0.1, 0.0], (4, 1))
    for place, number in changes.items():
        value[int(place[1]), int(place[2])] = number
    return value


@pytest.mark.parametrize("maker", MAKERS)
def test_negative_scores_are_repaired_and_counted(maker):
    with pytest.warns(UserWarning, match="2 of 12 scores were negative"):
        assert first(maker, scores(_10=-0.5, _21=-0.1))


@pytest.mark.parametrize("maker", MAKERS)
def test_a_score_that_is_not_a_number_is_refused_and_its_group_named(maker):
    with pytest.raises(UsageError) as caught:
        first(maker, scores(_21=np.nan))
    assert "1 of 12 scores are not finite numbers" in str(caught.value)
    assert "'layer2', choice 1" in str(caught.value)


@pytest.mark.parametrize("maker", MAKERS)
def test_layers_that_do_nothing_take_the_cheapest_choice(maker):
    value = scores()
    value[2] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        asked = first(maker, value, 2)
    assert any(codes[2] == 0 for codes in asked)


@pytest.mark.parametrize("maker", MAKERS)
def test_scores_that_are_all_zero_still_give_a_policy(maker):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        (codes, *_) = first(maker, scores() * 0)
    assert codes.sum() == 0
