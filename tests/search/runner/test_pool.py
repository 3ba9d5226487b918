"""Shared evaluators: the same candidates as without, whoever evaluates and whoever dies."""

import os
import signal

import pytest

from search.api import search
from search.records import Result
from search.runner import cluster, pool
from search.runner.pool import PooledJudge
from search.settings import RunnerSettings
from tests.e2e.conftest import *  # noqa: F403 - the tiny study
from tests.support.toy import ToyJudge, toy_space

SPACE = toy_space(groups=3, choices=3)


class Direct:
    """An actor's handle without an actor: remembers what it was asked."""

    def __init__(self):
        self.asked = []
        self.evaluate = self

    def remote(self, policies, split):
        self.asked.append(list(policies))
        return ToyJudge(SPACE).evaluate(policies, split)


@pytest.fixture
def direct(monkeypatch):
    monkeypatch.setattr("ray.get", lambda answers: answers)
    return lambda size: [Direct() for _ in range(size)]


def policies(count):
    return [SPACE.policy([i % 3, (i // 3) % 3, i % 2]) for i in range(count)]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 8])
def test_results_come_in_the_order_of_the_policies(direct, size, count):
    judge = PooledJudge(direct(size), None, None)
    asked = policies(count)
    assert judge.evaluate(asked) == ToyJudge(SPACE).evaluate(asked)


def test_work_is_shared_evenly_over_batches_too(direct):
    actors = direct(3)
    judge = PooledJudge(actors, None, None)
    for _ in range(6):
        judge.evaluate(policies(2))
    assert [sum(map(len, actor.asked)) for actor in actors] == [4, 4, 4]


@pytest.mark.slow
def test_a_study_with_evaluators_has_the_candidates_of_one_without(tiny_model, splits, tmp_path):
    tables = {}
    try:
        for size in (0, 2):
            tables[size] = search(
                tiny_model,
                **splits,
                strategies=["random", "nsga2"],
                evaluations=12,
                run_dir=tmp_path / str(size),
                overrides=["budget.batch=4", f"runner.evaluators={size}"],
            ).table
    finally:
        cluster.shutdown()
    columns = ["strategy", "seed", "seq", "policy_id", "quality_key", "ce", "kl", "accuracy"]
    none, two = (tables[size][columns].reset_index(drop=True) for size in (0, 2))
    assert none.equals(two)


class Fragile:
    """A judge that dies once, in the middle of its work."""

    def __init__(self, mark):
        self.mark = mark

    def evaluate(self, policies, split="search"):
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [Result(p.digest[:24], p.policy_id, 0.1, 0.1, 0.9, 9, 0.0) for p in policies]


class Shared:
    threads = 1


@pytest.mark.slow
def test_an_evaluator_that_dies_is_started_and_asked_again(tmp_path):
    import ray

    mark = tmp_path / "died"
    try:
        with cluster.environment():
            cluster.connect(RunnerSettings(workers=1, evaluators=2))
            actors = pool.start(2, 0.9, lambda shared, arrays: Fragile(mark), Shared(), {})
            found = PooledJudge(actors, None, None).evaluate(policies(5))
            assert len({ray.get(actor.process.remote()) for actor in actors}) == 2
    finally:
        cluster.shutdown()
    assert mark.exists()
    assert [result.policy_id for result in found] == [p.policy_id for p in policies(5)]
