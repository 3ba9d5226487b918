"""HAQ and AutoQ: widths, projection, what is remembered, mistakes."""

import numpy as np
import pytest

from quant.errors import InfeasibleError, UsageError
from search.records import Result
from search.strategies.base import SearchContext
from search.strategies.haq import HaqStrategy, Ladder
from spaces.choices import parse_choice
from spaces.constraints import Constraint
from spaces.space import Group, SearchSpace
from tests.support.toy import ToyCosts, ToyJudge, toy_layer, toy_space

SPACE = toy_space(groups=4, choices=4)
COSTS = ToyCosts(SPACE)


def both_widths(groups=3):
    layers = tuple(toy_layer(index) for index in range(groups))
    offered = tuple(parse_choice(f"int{w}src/int{a}ut") for w in (2, 4, 8) for a in (4, 8))
    extra = (parse_choice("float32/float32"),)
    members = tuple(Group(layer.name, (layer.name,), offered, extra) for layer in layers)
    return SearchSpace("both", layers, members)


def started(space=SPACE, seed=0, constraints=(), evaluations=60, **options):
    strategy = HaqStrategy(**{"budgets": 2, "warmup": 3, "hidden": 16, "batch": 8, **options})
    strategy.check(space)
    strategy.start(
        SearchContext(
            space,
            ToyCosts(space),
            {},
            "ce",
            ("size_bytes",),
            constraints,
            np.random.default_rng(seed),
            evaluations,
        )
    )
    return strategy


def play(strategy, space=SPACE, n=12, batch=1, judge=None):
    judge = judge or ToyJudge(space)
    codes = []
    while len(codes) < n:
        policies = strategy.ask(min(batch, n - len(codes)))
        strategy.tell(judge.evaluate(policies))
        codes += [space.codes(policy).tolist() for policy in policies]
    return np.array(codes)


@pytest.mark.parametrize(
    ("action", "bits"), [(0.0, 2), (0.07, 2), (0.2, 3), (0.5, 5), (0.93, 8), (1.0, 8)]
)
def test_an_action_becomes_a_width_as_published(action, bits):
    """round((max - min + 1) a + min - 1/2), clamped: 0 must not become a width of 1."""
    strategy = started(both_widths())
    assert strategy._bits(action, 0) == bits


def test_widths_lie_on_a_ladder():
    ladder = Ladder.of(both_widths().groups[0])
    assert ladder.weights == (2, 4, 8)
    assert ladder.inputs == (4, 8)
    assert ladder.nearest((5, 9)) == (4, 8)
    assert ladder.lower((8, 8), 1) == (8, 4)
    assert ladder.lower((8, 4), 1) is None
    assert ladder.lower((8, 4), 0) == (4, 4)


@pytest.mark.parametrize("variant", ["haq", "autoq"])
def test_every_policy_is_within_its_agents_budget(variant):
    space = both_widths()
    strategy = started(space, variant=variant)
    costs = ToyCosts(space).costs(play(strategy, space, 20))["size_bytes"]
    limits = [track.limit for track in strategy._tracks]
    assert len(limits) == 2
    for turn, cost in enumerate(costs):
        assert cost <= limits[turn % 2] * (1 + 1e-9)


def test_the_memory_holds_the_projected_action():
    strategy = started()
    policies = strategy.ask(1)
    strategy.tell(ToyJudge(SPACE).evaluate(policies))
    (kept,) = strategy._tracks[0].agent.episodes
    bits = [policies[0][name].weight.bits for name in policies[0]]
    low, high = strategy._ends[0]
    expected = (np.array(bits) - low + 0.5) / (high - low + 1)
    assert np.allclose(kept.actions, expected)
    assert [strategy._bits(action, 0) for action in kept.actions] == bits
    assert kept.states.shape == (4, 10)
    assert kept.states[1:, 8].tolist() == kept.actions[:-1].tolist()


def test_rewards_follow_accuracy_and_autoq_spreads_them():
    found = Result("k", "p", ce=1.0, kl=0.1, accuracy=0.85, n=10, standard_error=0.0, eval_s=0.0)
    assert started()._reward(found) == pytest.approx(8.5)
    assert started(variant="autoq")._reward(found) == pytest.approx(8.5 / 4)


def test_limits_hold():
    limit = float(COSTS.table("size_bytes")[:, 0].sum() * 1.2)
    strategy = started(constraints=(Constraint("size_bytes", limit),))
    assert (COSTS.costs(play(strategy, n=10))["size_bytes"] <= limit * (1 + 1e-9)).all()
    with pytest.raises(InfeasibleError, match="satisfies the constraints"):
        started(constraints=(Constraint("size_bytes", 1.0),))


def test_a_seed_repeats_a_trial():
    one, two, other = (play(started(seed=seed), n=16).tolist() for seed in (1, 1, 2))
    assert one == two != other


def test_failed_policies_are_not_learnt_from():
    class Failing(ToyJudge):
        def evaluate(self, policies, split="search"):
            return [Result.failure("k", p.policy_id, "no", 0.0) for p in policies]

    strategy = started()
    play(strategy, n=10, judge=Failing(SPACE))
    assert all(not track.agent.episodes for track in strategy._tracks)
    play(strategy, n=10)
    assert all(track.agent.episodes for track in strategy._tracks)


def test_mistakes_are_told():
    with pytest.raises(UsageError, match=r"(?s)unknown variant 'haqq'.*did you mean 'haq'"):
        HaqStrategy(variant="haqq")
    with pytest.raises(UsageError, match="at least 1"):
        HaqStrategy(budgets=0)
    with pytest.raises(UsageError, match="nothing to decide"):
        started(toy_space(groups=2, choices=1))
