"""What every strategy in conf/strategy promises, on a space made of arithmetic."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from quant.sensitivity.base import ScoreTable
from search.journal import JournalWriter
from search.plan import build_strategy
from search.records import read_journal
from search.strategies.base import SearchContext
from search.trial import Budget, TrialName, run_trial, trial_rng
from spaces.constraints import Constraint
from tests.support.toy import ToyCosts, ToyJudge, toy_space, toy_trainable

CONF = Path(__file__).parents[2] / "conf" / "strategy"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
SPACE = toy_space(groups=6, choices=4)
COSTS = ToyCosts(SPACE)


SHORT = {"dnas": {"steps": 4}, "rl": {"steps": 1_000, "more": 200}}
"""Options of less training, for promises that do not depend on its length."""


def make(name, options):
    data = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert list(data) == [name], "each file writes its own key, so that lists merge"
    return build_strategy(name, {**data[name], **options}, ())


def additive_scores():
    """Single-group losses of the toy judge: what a perfect additive score would say."""
    judge = ToyJudge(SPACE)
    top = [len(group.all_choices) - 1 for group in SPACE.groups]
    base = judge.loss(top)
    value = np.full((len(SPACE.groups), 5), np.nan)
    for g, group in enumerate(SPACE.groups):
        for c in range(len(group.all_choices)):
            codes = list(top)
            codes[g] = c
            value[g, c] = judge.loss(codes) - base
    return ScoreTable("any", value, value * 0, 0.0, 3.0, surrogate=ToySurrogate())


class ToySurrogate:
    """Predicts the toy judge's loss without its interactions, as every quality."""

    def predict(self, codes):
        harm = additive_scores().value[np.arange(len(SPACE.groups)), codes].sum(axis=1)
        return {"kl": harm, "ce": harm, "accuracy": np.exp(-harm)}


class AnyScore(dict):
    def __missing__(self, kind):
        return additive_scores()


def run(name, folder, seed=0, evaluations=20, known=None, constraints=(), incarnation="a",
        short=True):  # fmt: skip
    context = SearchContext(
        SPACE, COSTS, AnyScore(), "ce", ("size_bytes", "latency_ms"), constraints,
        trial_rng(name, seed), evaluations, toy_trainable(SPACE),
    )  # fmt: skip
    path = folder / f"{name}-{seed}-{incarnation}.jsonl"
    with JournalWriter(path) as journal:
        run_trial(
            TrialName(name, seed, incarnation), make(name, SHORT.get(name, {}) if short else {}),
            context, ToyJudge(SPACE), journal, Budget(evaluations, batch=2), known=known,
        )  # fmt: skip
    return list(read_journal(path)) if path.exists() else []


@pytest.mark.parametrize("name", NAMES)
def test_a_file_explains_itself_in_its_first_line(name):
    assert (CONF / f"{name}.yaml").read_text().startswith("# ")


@pytest.mark.parametrize("name", NAMES)
def test_candidates_are_distinct_searchable_and_within_budget(name, tmp_path):
    lines = run(name, tmp_path, short=False)
    codes = np.array([line.codes for line in lines])
    assert 5 <= len(lines) <= 20
    assert len({line.codes for line in lines}) == len(lines)
    assert (codes < SPACE.sizes).all()


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_give_equal_candidates(name, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = (run(name, tmp_path / folder, seed=3, evaluations=14) for folder in ("one", "two"))
    assert [line.codes for line in one] == [line.codes for line in two]


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_trial_continues_as_if_never_stopped(name, tmp_path):
    whole = run(name, tmp_path, evaluations=16)
    (tmp_path / "x").mkdir()
    first = run(name, tmp_path / "x", evaluations=7)
    known = {line.result.quality_key: line.result for line in first}
    rest = run(name, tmp_path / "x", evaluations=16, known=known, incarnation="b")
    assert [line.codes for line in [*first, *rest]] == [line.codes for line in whole]


@pytest.mark.parametrize("name", NAMES)
def test_hard_limits_are_never_exceeded(name, tmp_path):
    draws = SPACE.sample(np.random.default_rng(1), 200)
    limit = float(np.quantile(COSTS.costs(draws)["size_bytes"], 0.4))
    lines = run(name, tmp_path, constraints=(Constraint("size_bytes", limit),))
    sizes = COSTS.costs(np.array([line.codes for line in lines]))["size_bytes"]
    assert len(sizes)
    assert (sizes <= limit).all()


@pytest.mark.parametrize("name", ["greedy", "hawq", "additive"])
def test_score_based_strategies_beat_random_on_an_almost_additive_space(name, tmp_path):
    from search.pareto import normalised_hypervolume

    def share(lines):
        codes = np.array([line.codes for line in lines])
        points = np.c_[[line.result.ce for line in lines], COSTS.costs(codes)["size_bytes"]]
        worst = [ToyJudge(SPACE).loss([0] * 6), COSTS.table("size_bytes")[:, 3].sum() * 1.01]
        best = [0.0, COSTS.table("size_bytes")[:, 0].sum()]
        return normalised_hypervolume(points, np.array(best), np.array(worst))

    random = np.mean([share(run("random", tmp_path, seed=seed)) for seed in range(5)])
    assert share(run(name, tmp_path)) > random


def test_the_additive_strategy_holds_every_nondominated_policy(tmp_path):
    import itertools

    from search.pareto import front_indices

    table, cost = additive_scores().value, COSTS.table("size_bytes")
    every = np.array(list(itertools.product(range(4), repeat=6)))
    rows = np.arange(6)
    points = np.c_[cost[rows, every].sum(1), table[rows, every].sum(1)]
    front = {tuple(map(int, every[i])) for i in front_indices(points)}
    lines = run("additive", tmp_path, evaluations=4**6)
    asked = {line.codes for line in lines}
    found = np.array([points[np.flatnonzero((every == c).all(1))[0]] for c in asked])
    # Policies with equal totals may stand in for each other: compare the points.
    for codes in front:
        point = points[np.flatnonzero((every == codes).all(1))[0]]
        assert (np.abs(found - point).max(axis=1) < 1e-9).any()
