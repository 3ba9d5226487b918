"""The study loop, with a judge that answers from arithmetic."""

import numpy as np
import pytest

from search.journal import JournalWriter
from search.records import Counters, Result, read_journal
from search.strategies.base import Queue, SearchContext, Strategy
from search.strategies.random import RandomStrategy
from search.trial import Budget, TrialName, run_trial, trial_rng
from tests.support.toy import ToyCosts, ToyJudge, toy_space


class Repeating(Strategy):
    """Proposes the same policy for ever."""

    def ask(self, n):
        return [self.context.space.policy([0] * len(self.context.space.groups))] * n

    def tell(self, results):
        self.told = list(results)


class Listed(Strategy):
    def __init__(self, codes):
        self.codes = codes
        self.heard = []

    def start(self, context):
        super().start(context)
        self.queue = Queue(context.space)
        for codes in self.codes:
            self.queue.push(codes)

    def ask(self, n):
        return self.queue.pop(n)

    def tell(self, results):
        self.heard += results


@pytest.fixture
def space():
    return toy_space(groups=3, choices=2)


def context(space, seed=0):
    return SearchContext(
        space, ToyCosts(space), {}, "ce", ("size_bytes",), (), trial_rng("x", seed), 10
    )


def drive(strategy, space, path, judge=None, **options):
    judge = judge or ToyJudge(space)
    budget = options.pop("budget", Budget(evaluations=5))
    with JournalWriter(path) as journal:
        count = run_trial(
            TrialName("x", 0, "a"), strategy, context(space), judge, journal, budget, **options
        )
    return count, judge


def test_the_budget_counts_distinct_candidates(space, tmp_path):
    path = tmp_path / "j.jsonl"
    count, judge = drive(RandomStrategy(), space, path, budget=Budget(6, batch=4))
    lines = list(read_journal(path))
    assert count == len(lines) == judge.calls == 6
    assert len({line.codes for line in lines}) == 6
    assert [line.seq for line in lines] == list(range(6))
    assert [line.counters.true for line in lines] == [1, 2, 3, 4, 5, 6]


def test_a_strategy_that_repeats_itself_is_ended_and_charged_once(space, tmp_path):
    strategy = Repeating()
    count, judge = drive(strategy, space, tmp_path / "j.jsonl")
    assert count == judge.calls == 1
    assert strategy.told[0].status == "ok"


def test_results_arrive_in_the_order_asked(space, tmp_path):
    codes = [(0, 0, 1), (1, 1, 1), (0, 1, 0)]
    strategy = Listed(codes)
    drive(strategy, space, tmp_path / "j.jsonl", budget=Budget(9, batch=2))
    assert [r.policy_id for r in strategy.heard] == [space.policy(c).policy_id for c in codes]


def test_a_resumed_trial_evaluates_only_what_is_missing(space, tmp_path):
    whole, first = tmp_path / "whole.jsonl", tmp_path / "first.jsonl"
    drive(RandomStrategy(), space, whole, budget=Budget(7))
    drive(RandomStrategy(), space, first, budget=Budget(4))
    known = {line.result.quality_key: line.result for line in read_journal(first)}
    rest = tmp_path / "rest.jsonl"
    count, judge = drive(RandomStrategy(), space, rest, budget=Budget(7), known=known)
    assert count == 7
    assert judge.calls == 3
    resumed = [line.codes for line in [*read_journal(first), *read_journal(rest)]]
    assert resumed == [line.codes for line in read_journal(whole)]
    assert [line.seq for line in read_journal(rest)] == [4, 5, 6]


def test_a_failing_candidate_is_recorded_and_the_trial_goes_on(space, tmp_path):
    class Failing(ToyJudge):
        def evaluate(self, policies, split="search"):
            results = super().evaluate(policies, split)
            return [Result.failure(r.quality_key, r.policy_id, "boom") for r in results]

    path = tmp_path / "j.jsonl"
    count, _ = drive(RandomStrategy(), space, path, judge=Failing(space))
    lines = list(read_journal(path))
    assert count == len(lines) == 5
    assert all(line.result.error == "boom" for line in lines)


def test_work_done_before_the_trial_is_charged(space, tmp_path):
    path = tmp_path / "j.jsonl"
    drive(RandomStrategy(), space, path, spent=Counters(forward=12.5), spent_s=100.0)
    first = next(read_journal(path))
    assert first.counters == Counters(true=1, surrogate=0, forward=12.5)
    assert first.wall_s >= 100


def test_a_stop_ends_the_trial_between_batches(space, tmp_path):
    answers = iter([False, False, True])
    count, _ = drive(RandomStrategy(), space, tmp_path / "j.jsonl", stop=lambda: next(answers))
    assert count == 2


def test_trials_draw_independently_and_reproducibly():
    draws = [trial_rng(*key).integers(2**60) for key in [("a", 0), ("a", 0), ("a", 1), ("b", 0)]]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_infeasible_policies_are_never_proposed_by_random(space, tmp_path):
    from spaces.constraints import Constraint

    costs = ToyCosts(space)
    limit = float(np.median(costs.costs(space.sample(np.random.default_rng(0), 99))["size_bytes"]))
    strategy = RandomStrategy()
    strategy.start(
        SearchContext(
            space,
            costs,
            {},
            "ce",
            ("size_bytes",),
            (Constraint("size_bytes", limit),),
            trial_rng("random", 0),
            8,
        )
    )
    asked = strategy.ask(8)
    assert asked
    sizes = costs.costs(np.array([space.codes(p) for p in asked]))["size_bytes"]
    assert (sizes <= limit).all()


class Batching(ToyJudge):
    """Remembers how many policies it was handed at a time."""

    def __init__(self, space):
        super().__init__(space)
        self.sizes = []

    def evaluate(self, policies, split="search"):
        self.sizes.append(len(policies))
        return super().evaluate(policies, split)


def driven(folder, strategy, together, known=None, batch=4):
    space = toy_space(groups=4, choices=4)
    judge, path = Batching(space), folder / f"{together}.jsonl"
    context = SearchContext(
        space, ToyCosts(space), {}, "ce", ("size_bytes",), (), trial_rng("x", 0), 10
    )
    with JournalWriter(path) as journal:
        run_trial(
            TrialName("x", 0, "a"), strategy, context, judge, journal, Budget(10, batch=batch),
            together=together, known=known,
        )  # fmt: skip
    return judge.sizes, list(read_journal(path)) if path.exists() else []


@pytest.mark.parametrize("together", [1, 2, 3, 4, 9])
def test_how_many_are_evaluated_together_changes_no_candidate(tmp_path, together):
    _, alone = driven(tmp_path, RandomStrategy(), 1)
    (tmp_path / "b").mkdir()
    sizes, lines = driven(tmp_path / "b", RandomStrategy(), together)
    assert [(i.codes, i.result, i.seq) for i in lines] == [
        (i.codes, i.result, i.seq) for i in alone
    ]
    assert max(sizes) == min(together, 4)
    assert sum(sizes) == 10


def test_only_new_and_different_policies_are_evaluated_together(tmp_path):
    codes = [[0] * 4, [1] * 4, [2] * 4, [3] * 4]
    _, lines = driven(tmp_path, Listed(codes), 4)
    known = {line.result.quality_key: line.result for line in lines[:2]}
    (tmp_path / "again").mkdir()
    sizes, rest = driven(tmp_path / "again", Listed(codes), 4, known)
    assert sizes == [2]
    assert [line.codes for line in rest] == [(2,) * 4, (3,) * 4]
    sizes, _ = driven(tmp_path / "again", Repeating(), 3)
    assert sizes == [1]
