"""The strategy: proposals within budgets, determinism, gaps, training that runs away."""

import numpy as np
import pytest
import torch

from quant.errors import DataError, UsageError
from quant.sensitivity.base import ScoreTable
from search.benches.arena import TableArena, replay
from search.dnas.relaxations import RELAXATIONS
from search.dnas.training import Trainer
from search.strategies.base import SearchContext, Work
from search.strategies.dnas import DnasStrategy
from search.tabulated.nets import DATA
from search.tabulated.table import Table
from tests.search.strategies.test_lss import COSTS, SPACE, table
from tests.support.toy import ToyCosts, ToyJudge, toy_space, toy_trainable

SHORT = {"budgets": 3, "steps": 6, "batch": 20}


@pytest.fixture(scope="module")
def arena():
    return TableArena(Table.load(DATA / "conv_short-w2348.npz"))


def codes_of(arena, seed=0, n=12, **options):
    return replay("dnas", DnasStrategy(**{**SHORT, **options}), arena, seed, n)


@pytest.mark.parametrize("name", sorted(RELAXATIONS))
def test_every_relaxation_runs_a_trial(arena, name):
    run = codes_of(arena, relaxation=name)
    assert len(run.points) == 12
    assert np.isfinite(run.points).all()


@pytest.mark.parametrize(
    "options",
    [{"penalty": "log_product"}, {"penalty": "barrier"}, {"score": ""}, {"weights": "alternate"},
     {"distil": 0.5}],
)  # fmt: skip
def test_every_option_runs_a_trial(arena, options):
    assert len(codes_of(arena, **options).points) == 12


def test_a_seed_repeats_a_trial(arena):
    one, two, other = (codes_of(arena, seed, relaxation="gumbel") for seed in (1, 1, 2))
    assert np.array_equal(one.points, two.points)
    assert not np.array_equal(one.points, other.points)


def test_its_training_is_counted_with_the_trial(arena):
    run = codes_of(arena)
    assert (np.diff(run.own_work) >= 0).all()
    assert run.own_work[0] > 6 * 3 * 20 / 400
    assert run.share_at(1) == 0.0
    assert run.share_at(10_000) == run.share(12)


def test_losses_entropies_and_gaps_are_kept(arena):
    strategy = DnasStrategy(**SHORT)
    replay("dnas", strategy, arena, 0, 6)
    state = strategy.state_dict()
    assert len(state["loss"]) == len(state["entropy"]) == len(state["excess"])
    assert len(state["loss"]) % 6 == 0
    assert all(0 <= value <= 1.001 for value in state["entropy"])
    for gap in state["gaps"]:
        assert gap["gap"] == pytest.approx(gap["projected"] - gap["mixture"])
    assert strategy.work().forward > 0


def test_it_is_ahead_of_random_on_a_tabulated_space(arena):
    run = codes_of(arena, n=40, budgets=8, steps=40, batch=50)
    assert run.share(40) > 0.93


def context(**changes):
    given = {
        "space": SPACE, "costs": COSTS, "scores": {"lss": table(None)}, "quality": "ce",
        "cost_metrics": ("size_bytes",), "constraints": (), "rng": np.random.default_rng(0),
        "evaluations": 5,
    }  # fmt: skip
    return SearchContext(**{**given, **changes})


def test_mistakes_are_told():
    with pytest.raises(UsageError, match="no model to learn through"):
        DnasStrategy().start(context())
    with pytest.raises(UsageError, match="nothing can be learned"):
        space = toy_space(groups=2, choices=1)
        score = ScoreTable("lss", np.ones((2, 1)), np.zeros((2, 1)), 0.0, 1.0)
        DnasStrategy().start(
            context(space=space, costs=type(COSTS)(space), scores={"lss": score},
                    trainable=lambda: None)
        )  # fmt: skip
    with pytest.raises(UsageError, match="at least 1"):
        DnasStrategy(steps=0)
    with pytest.raises(UsageError, match="did you mean 'alternate'"):
        DnasStrategy(weights="alternated")
    assert Work() == Work(0, 0.0)


def test_a_loss_that_runs_away_goes_back_once_then_fails(arena, monkeypatch):
    strategy = DnasStrategy(**SHORT)
    strategy.start(context(
        space=arena.space, costs=arena.costs, scores=arena.scores(["lss"], 0),
        cost_metrics=arena.costs.metrics, trainable=arena.trainable,
    ))  # fmt: skip
    trainer = strategy._trainer
    kept = {name: value.clone() for name, value in trainer.relaxed.state_dict().items()}
    losses = iter([1.0, 1.9, float("nan"), 1.8, 1.7, 1.6])
    monkeypatch.setattr(Trainer, "step", lambda *_: next(losses))
    trainer.learn(lambda p: p.sum(), 1.0, 6)
    assert trainer._rate == pytest.approx(0.05)
    assert all(
        torch.equal(kept[name], value) for name, value in trainer.relaxed.state_dict().items()
    )
    losses = iter([1.0, float("inf")])
    with pytest.raises(DataError, match=r"(?s)ran away again at step 1.*rate=0.025"):
        trainer.learn(lambda p: p.sum(), 1.0, 2)


def test_a_space_of_one_layer_is_searched():
    space = toy_space(groups=1, choices=4)
    costs = ToyCosts(space)
    score = ScoreTable("lss", np.array([[4.0, 2.0, 1.0, 0.5]]), np.zeros((1, 4)), 0.0, 1.0)
    strategy = DnasStrategy(**SHORT)
    strategy.start(context(
        space=space, costs=costs, scores={"lss": score}, trainable=toy_trainable(space)
    ))  # fmt: skip
    asked = set()
    while policies := strategy.ask(1):
        strategy.tell(ToyJudge(space).evaluate(policies))
        asked |= {int(space.codes(policy)[0]) for policy in policies}
    assert len(asked) >= 2


def test_surrogate_calls_are_counted_apart_from_evaluations(arena):
    strategy = DnasStrategy(**SHORT)
    replay("dnas", strategy, arena, 0, 6)
    assert strategy.work().surrogate > 6
