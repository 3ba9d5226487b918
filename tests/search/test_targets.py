import pytest

from quant.errors import UsageError
from search.strategies.random import RandomStrategy
from search.targets import build, resolve


def test_a_target_is_built_with_its_options():
    made = build(
        {"_target_": "search.strategies.greedy.GreedyStrategy", "score": "hutchinson"}, where="s"
    )
    assert made.needs() == {"hutchinson"}
    assert resolve("search.strategies.random.RandomStrategy") is RandomStrategy


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_target_": "os.system"}, "outside the allowed packages"),
        ({"_target_": "searching.evil.run"}, "outside the allowed packages"),
        ({"_target_": "search.strategies.randm.R"}, "No module named"),
        (
            {"_target_": "search.strategies.random.RandomStrateg"},
            "(?s)no callable 'RandomStrateg'.*did you mean 'RandomStrategy'",
        ),
        (
            {"_target_": "search.strategies.greedy.GreedyStrategy", "scor": 1},
            "(?s)unknown key 'scor' in strategy.x.*did you mean 'score'",
        ),
        ({"score": 1}, "strategy.x has no _target_"),
    ],
)
def test_bad_targets_are_refused(config, message):
    with pytest.raises(UsageError, match=message):
        build(config, where="strategy.x")


def test_a_listed_plugin_prefix_is_allowed():
    assert resolve("fractions.Fraction", ["fractions"])(1, 2) == 0.5
