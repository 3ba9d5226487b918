import json

import numpy as np
import pytest

from quant.errors import UsageError
from search.benches import strategies
from search.benches.arena import Run, TableArena, replay
from search.plan import build_strategy
from search.strategies.random import RandomStrategy
from search.tabulated.nets import DATA
from search.tabulated.table import Table

MIXER = DATA / "mixer-w2348.npz"


def figures(*words):
    return list(strategies.run(strategies.read(words)))


@pytest.fixture(scope="module")
def arena():
    return TableArena(Table.load(MIXER))


def test_a_table_from_outside_gives_runs_medians_and_leads():
    found = figures(f"table={MIXER}", "strategies=[lss,random]", "seeds=[0,1]")
    cases = [item.case for item in found]
    for name in ("lss", "random"):
        for mark in (20, 40, 80):
            own = [f"mixer-w2348/{name}@{mark}/seed{seed}" for seed in (0, 1)]
            values = [item.value for item in found if item.case in own]
            (median,) = (
                i.value
                for i in found
                if i.case == f"mixer-w2348/{name}@{mark}" and i.metric == "hypervolume_share"
            )
            assert len(values) == 2
            assert median == pytest.approx(np.median(values))
    assert "mixer-w2348/lss@60eq" in cases
    assert "mixer-w2348/lss-over-random@40" in cases
    assert all(0 <= i.value <= 1 for i in found if i.metric == "hypervolume_share")
    assert json.loads(found[0].to_json())["suite"] == "strategies"


def test_strategies_without_their_score_or_for_smaller_spaces_are_left_out(tmp_path):
    with np.load(MIXER) as file:
        kept = {n: file[n] for n in ("space", "cost_metric", "cost", "ce", "float_ce")}
    np.savez(tmp_path / "bare.npz", **kept)
    words = [f"table={tmp_path / 'bare.npz'}", "strategies=[lss,greedy,random]", "seeds=[0]"]
    assert {item.case.split("/")[1].split("@")[0] for item in figures(*words)} == {"random"}


def test_scores_are_charged_in_evaluation_equivalents(arena):
    work = arena.work(["lss"])
    assert 5 < work < 29 * 200 / 400
    points = arena._table.points[np.argsort(arena._table.ce)[:60]]
    done = Run("x", "lss", 0, points, arena, work, 0.0, np.zeros(60))
    assert done.share_at(60) == done.share(int(60 - work))
    assert done.share_at(1) == 0.0


def test_a_run_holds_the_true_points_in_the_order_of_evaluation(arena):
    done = replay("random", RandomStrategy(), arena, 3, 15)
    assert done.points.shape == (15, 2)
    table = arena._table
    rows = {tuple(point) for point in table.points}
    assert all(tuple(point) in rows for point in done.points)
    shares = [done.share(n) for n in range(16)]
    assert shares[0] == 0
    assert (np.diff(shares) >= 0).all()


def test_seeds_move_strategies_without_chance_of_their_own(arena):
    config = {"_target_": "search.strategies.additive.AdditiveStrategy"}
    one, two, again = (
        replay("additive", build_strategy("additive", config, ()), arena, seed, 20).points
        for seed in (0, 1, 1)
    )
    assert np.array_equal(two, again)
    assert not np.array_equal(one, two)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("strategies=[lssr]", "did you mean 'lss'?"),
        ("family=tokens", "did you mean 'token'?"),
        ("seeds=[a]", "seeds are not all integers"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(word, message):
    with pytest.raises(UsageError) as caught:
        strategies.read([word])
    assert message in str(caught.value)


def test_a_task_too_large_to_tabulate_is_judged_against_all_that_was_found(monkeypatch):
    from search.benches import arena as module
    from search.tabulated.nets import tabulated_task

    monkeypatch.setattr(module, "load_task", lambda settings: tabulated_task("mixer"))
    monkeypatch.setattr(strategies, "TASK_MARKS", (5, 10))
    words = ["task=digits_vit", "space=w2348_a48", "strategies=[additive,random]", "seeds=[0,1]"]
    found = figures(*words)
    assert {item.metric for item in found} == {"union_share", "union_share_guess"}
    assert {item.case for item in found} == {
        f"digits_vit-w2348_a48/{name}@{mark}"
        for name in ("additive", "random")
        for mark in (5, 10)
    }
    assert all(0 <= item.value <= 1 for item in found)
    guess = [item.value for item in found if item.metric == "union_share_guess"]
    assert min(guess) > 0
