"""The second record: on disk before the answer, whole lines only."""

import os

import pytest

from search.runner.ledger import LedgerJudge, read_ledger
from tests.support.toy import ToyJudge, toy_space

SPACE = toy_space(groups=3, choices=3)


def policies(count):
    return [SPACE.policy([i % 3, (i // 3) % 3, 0]) for i in range(count)]


def test_each_evaluation_stands_in_the_ledger_in_order(tmp_path):
    judge = LedgerJudge(ToyJudge(SPACE), tmp_path / "new" / "ledger", "random-0")
    first, second = policies(2)
    results = [*judge.evaluate([first]), *judge.evaluate([second, first])]
    assert results == ToyJudge(SPACE).evaluate([first, second, first])
    keys = [("random-0", judge.key(policy)) for policy in (first, second, first)]
    assert read_ledger(tmp_path / "new" / "ledger") == keys


def test_it_is_synced_before_the_result_is_handed_out(tmp_path, monkeypatch):
    events = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: events.append("sync") or sync(number))
    judge = LedgerJudge(ToyJudge(SPACE), tmp_path, "random-0")
    judge.evaluate(policies(3))
    events.append("answer")
    assert events == ["sync", "answer"]


def test_what_was_not_evaluated_is_not_written(tmp_path):
    class Breaking(ToyJudge):
        def evaluate(self, policies, split="search"):
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError):
        LedgerJudge(Breaking(SPACE), tmp_path, "random-0").evaluate(policies(1))
    assert read_ledger(tmp_path) == []


def test_a_torn_last_line_is_no_evaluation(tmp_path):
    (tmp_path / "random-0-1.txt").write_text("random-0 aa\nrandom-0 b")
    assert read_ledger(tmp_path) == [("random-0", "aa")]
