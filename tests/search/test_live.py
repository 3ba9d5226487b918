"""What a running study shows is what its journals hold."""

import io
import math
import re

import numpy as np
import pytest

from search import live
from search.fronts import reference_for
from search.journal import JournalWriter
from search.live import Board, follow
from search.pareto import normalised_hypervolume
from search.records import JournalLine, Result
from tests.support.toy import ToyCosts, ToyJudge, toy_space

SPACE = toy_space(groups=3, choices=3)
COSTS = ToyCosts(SPACE)
BUDGETS = {"baseline-0": 1, "random-0": 4, "nsga2-0": 4}


def board():
    return Board(SPACE, COSTS, "ce", "size_bytes", 10, BUDGETS)


def line(seq, codes, strategy="random", tag="", ok=True, incarnation="a"):
    (result,) = ToyJudge(SPACE).evaluate([SPACE.policy(codes)])
    if not ok:
        result = Result.failure(result.quality_key, result.policy_id, "no memory")
    return JournalLine(result, tuple(codes), strategy, 0, incarnation, seq, 1.0, tag=tag)


def write(folder, name, *lines):
    with JournalWriter(folder / f"{name}.jsonl") as journal:
        for item in lines:
            journal.append(item)


def shown(found, now=10.0):
    from rich.console import Console

    console = Console(file=io.StringIO(), width=100)
    console.print(found.table(now))
    rows = console.file.getvalue().splitlines()
    return {row.split()[0]: row.split()[1:] for row in rows[1:]}


def test_rows_hold_evaluations_best_hypervolume_and_time_left(tmp_path):
    found = board()
    floats = [len(group.all_choices) - 1 for group in SPACE.groups]
    write(tmp_path, "baseline-0-a", line(0, floats, "baseline", "fp32"))
    write(tmp_path, "random-0-a", line(0, [0, 0, 0]))
    found.update(tmp_path, now=10.0)
    write(tmp_path, "random-0-b", line(1, [2, 2, 2]), line(2, [1, 1, 1], ok=False))
    found.update(tmp_path, now=14.0)
    rows = shown(found, now=14.0)
    policies = [SPACE.policy(codes) for codes in ([0, 0, 0], [2, 2, 2], floats)]
    losses = [result.ce for result in ToyJudge(SPACE).evaluate(policies)]
    costs = COSTS.costs(np.array([[0, 0, 0], [2, 2, 2]]))["size_bytes"]
    reference = reference_for(SPACE, COSTS, "size_bytes", "ce", losses[2], 10)
    volume = normalised_hypervolume(
        np.stack([losses[:2], costs], axis=1), np.array(reference.ideal), np.array(reference.point)
    )
    assert rows["random-0"] == [
        "3/4",
        "(1",
        "failed)",
        f"{min(losses[:2]):.4f}",
        f"{volume:.3f}",
        "2",
        "s",
    ]
    assert rows["baseline-0"][0] == "1/1" and rows["baseline-0"][-1] == "done"
    assert rows["nsga2-0"] == ["0/4", "-", "-", "-"]


def test_a_candidate_of_two_incarnations_counts_once(tmp_path):
    found = board()
    write(tmp_path, "random-0-a", line(0, [0, 0, 0]))
    write(tmp_path, "random-0-b", line(0, [0, 0, 0], incarnation="b"), line(1, [1, 0, 0]))
    found.update(tmp_path, 1.0)
    assert found.done == 2


def test_a_line_being_written_is_read_when_it_is_whole(tmp_path):
    found, path = board(), tmp_path / "random-0-a.jsonl"
    text = line(0, [0, 0, 0]).to_json() + "\n"
    for end in (0, 10, len(text) - 1):
        path.write_text(text[:end])
        found.update(tmp_path, 1.0)
        assert found.done == 0
    path.write_text(text + "{}\n" + line(1, [1, 1, 1]).to_json() + "\n")
    found.update(tmp_path, 1.0)
    assert found.done == 2


def test_an_accuracy_is_shown_as_people_read_it(tmp_path):
    found = Board(SPACE, COSTS, "accuracy", "size_bytes", 10, BUDGETS)
    write(tmp_path, "random-0-a", line(0, [0, 0, 0]), line(1, [2, 2, 2]))
    found.update(tmp_path, 1.0)
    judged = ToyJudge(SPACE).evaluate([SPACE.policy([0, 0, 0]), SPACE.policy([2, 2, 2])])
    best = max(result.accuracy for result in judged)
    assert found.best(found.trials["random-0"]) == pytest.approx(best)


def test_there_is_no_pace_before_a_second_reading():
    trial = live.Trial(keys={"a"})
    assert math.isnan(trial.left_s(4, 1.0))
    trial.since = (1.0, 1)
    assert math.isnan(trial.left_s(4, 2.0))
    trial.keys |= {"b", "c"}
    assert trial.left_s(4, 3.0) == pytest.approx(1.0)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(live, "LIVE_EVERY_S", 0.01)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_terminal_sees_a_table_whose_last_state_stays(tmp_path, quick):
    stream = Terminal()
    with follow(board(), tmp_path, stream):
        write(tmp_path, "random-0-a", line(0, [0, 0, 0]), line(1, [1, 1, 1]))
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).rstrip().splitlines()[-3:]
    assert last[1].split()[:2] == ["random-0", "2/4"]
    assert last[1].split()[-1] == "done", "a strategy may end before its budget"


@pytest.mark.parametrize("terminal", [True, False])
def test_elsewhere_lines_are_plain_and_the_last_one_is_the_truth(
    tmp_path, quick, terminal, monkeypatch
):
    if terminal:
        monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal() if terminal else io.StringIO()
    with follow(board(), tmp_path, stream):
        write(tmp_path, "random-0-a", line(0, [0, 0, 0]), line(1, [1, 1, 1]))
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().splitlines()[-1].startswith("search: 2/2 candidates")


def test_an_error_inside_ends_the_watching(tmp_path, quick):
    with pytest.raises(RuntimeError), follow(board(), tmp_path, io.StringIO()):
        raise RuntimeError


def test_a_journal_that_is_removed_meanwhile_does_no_harm(tmp_path, monkeypatch):
    found = board()
    write(tmp_path, "random-0-a", line(0, [0, 0, 0]))
    monkeypatch.setattr(
        type(tmp_path),
        "glob",
        lambda self, _: iter([self / "gone.jsonl", self / "random-0-a.jsonl"]),
    )
    found.update(tmp_path, 1.0)
    assert found.done == 1
