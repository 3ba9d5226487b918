"""The audit itself: it must see every kind of loss it exists for."""

import shutil
from dataclasses import replace

import pandas as pd
import pytest

from quant.errors import UsageError
from search import files
from search.benches import faults
from search.benches.faults import Audit, Options, audit, candidates, corrupt_files, figures, read
from search.journal import JournalWriter
from search.records import JournalLine, Result, read_journals, to_frame


def line(number, strategy="random", incarnation="a"):
    result = Result(f"{number:024x}", f"p{number}", 0.5, 0.1, 0.9, 100, 0.01)
    return JournalLine(result, (number % 4, 0), strategy, 0, incarnation, number, 0.1 * number)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study of six candidates with its ledger, complete and undisturbed."""
    monkeypatch.setattr(faults, "_failed_checks", lambda run_dir: 0)
    write(tmp_path, [line(i) for i in range(6)])
    ledger(tmp_path, range(6))
    return tmp_path, candidates(tmp_path / "run")


def write(folder, lines, name="random-0-a"):
    with JournalWriter(folder / "run" / "trials" / f"{name}.jsonl") as journal:
        for item in lines:
            journal.append(item)
    table = to_frame(read_journals(folder / "run" / "trials"))
    files.write_table(folder / "run" / "trials.parquet", table)


def ledger(folder, numbers, name="random-0-17"):
    (folder / "ledger").mkdir(exist_ok=True)
    text = "".join(f"random-0 {number:024x}\n" for number in numbers)
    (folder / "ledger" / f"{name}.txt").write_text(text)


def test_an_undisturbed_study_has_nothing_to_report(study):
    folder, undisturbed = study
    assert audit(folder, undisturbed, 0) == Audit(6, 0, 0, 0, 0, 0, 0)


def test_an_evaluation_without_a_journal_line_is_lost(study):
    folder, undisturbed = study
    ledger(folder, [6], "random-0-18")
    assert audit(folder, undisturbed, 1).lost == 1


def test_the_same_key_in_another_trial_does_not_stand_in(study):
    folder, undisturbed = study
    (folder / "ledger" / "greedy-0-1.txt").write_text(f"greedy-0 {0:024x}\n")
    assert audit(folder, undisturbed, 0).lost == 1


def test_a_second_evaluation_is_counted_and_its_second_line_merged(study):
    folder, undisturbed = study
    ledger(folder, [5], "random-0-18")
    write(folder, [line(5, incarnation="b")], "random-0-b")
    found = audit(folder, undisturbed, 1)
    assert (found.twice, found.repeated, found.lost, found.kept) == (1, 0, 0, 6)


def test_another_quality_and_a_missing_candidate_are_differences(study):
    folder, undisturbed = study
    shutil.rmtree(folder / "run")
    other = line(2)
    write(folder, [line(0), line(1), replace(other, result=replace(other.result, ce=0.6))])
    found = audit(folder, undisturbed, 0)
    assert found.different == 5, "one that changed counts on both sides, three are missing"
    assert found.lost == 3


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("front.json", b'{"half": '),
        ("trials.parquet", b"PAR1"),
        ("config.yaml", b"a: [1"),
        ("surrogate-lss.npz", b"PK"),
        ("trials/greedy-0-a.jsonl", b"{}\n{}\n{}\n"),
        (".trials.parquet.4711", b""),
    ],
)
def test_damaged_and_half_written_files_are_seen(study, name, content):
    run_dir = study[0] / "run"
    assert corrupt_files(run_dir) == []
    (run_dir / name).write_bytes(content)
    assert corrupt_files(run_dir) == [name.rpartition("/")[2]]


def test_figures_are_sums_over_runs_against_a_bar_of_nothing():
    audits = [
        Audit(10, 0, 0, 3, 2, 0, 0),
        Audit(10, 1, 0, 0, 2, 0, 0),
        Audit(10, 0, 0, 1, 1, 0, 0),
    ]
    found = {item.metric: item for item in figures("worker", audits)}
    assert found["lost"].value == 1 and not found["lost"].met
    assert found["twice_beyond_one_batch"].value == 1
    assert found["corrupt"].met
    assert found["kept"].value == 10
    assert found["lost"].case == "worker@3"


def test_settings_are_read_and_the_rest_goes_to_the_studies():
    found = read(["runs=6", "kinds=[worker]", "seed=2", "budget.evaluations=9"])
    assert found == Options(6, ("worker",), 2, ("budget.evaluations=9",))


@pytest.mark.parametrize("word", ["runs=0", "runs=x", "kinds=[diver]"])
def test_bad_settings_are_refused(word):
    with pytest.raises(UsageError):
        read([word])


def test_order_of_writing_does_not_make_a_difference(study):
    folder, undisturbed = study
    path = folder / "run" / "trials.parquet"
    files.write_table(path, pd.read_parquet(path).iloc[::-1])
    assert audit(folder, undisturbed, 0).different == 0
