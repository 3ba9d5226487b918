import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import DataError
from search.journal import JournalWriter
from search.records import (
    Counters,
    JournalLine,
    Result,
    decode_codes,
    encode_codes,
    read_journal,
    read_journals,
    to_frame,
)


def line(seq=0, *, key=None, strategy="random", seed=0, incarnation="a", ce=0.5):
    result = Result(key or f"k{seq}", f"p{seq}", ce, 0.1, 0.9, 100, 0.02, eval_s=0.01)
    return JournalLine(
        result, (0, 1, 2), strategy, seed, incarnation, seq, 1.5, Counters(seq + 1, 0, 2.5)
    )


def write(path, lines):
    with JournalWriter(path) as journal:
        for item in lines:
            journal.append(item)
    return path


def test_lines_survive_a_round_trip(tmp_path):
    lines = [line(i) for i in range(3)]
    assert list(read_journal(write(tmp_path / "a.jsonl", lines))) == lines


def test_a_failed_result_is_written_as_null_and_read_as_nan():
    failed = JournalLine(Result.failure("k", "p", "boom"), (0,), "random", 0, "a", 0, 0.1)
    text = failed.to_json()
    assert json.loads(text)["ce"] is None
    back = JournalLine.from_json(text)
    assert math.isnan(back.result.ce)
    assert back.result.error == "boom"
    assert not back.result.ok


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_torn_last_line_is_dropped(tmp_path, cut):
    path = write(tmp_path / "a.jsonl", [line(0), line(1)])
    path.write_bytes(path.read_bytes()[:-cut])
    assert [item.seq for item in read_journal(path)] == [0]


def test_half_a_line_with_a_newline_is_dropped_too(tmp_path):
    path = write(tmp_path / "a.jsonl", [line(0)])
    path.write_bytes(path.read_bytes() + b'{"schema_version": 1, "codes\n')
    assert [item.seq for item in read_journal(path)] == [0]


def test_damage_in_the_middle_is_an_error_with_the_line_number(tmp_path):
    path = write(tmp_path / "a.jsonl", [line(0), line(1)])
    rows = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([b"garbage", *rows[1:]]))
    with pytest.raises(DataError, match="line 1 cannot be read"):
        list(read_journal(path))


def test_a_newer_schema_is_refused(tmp_path):
    text = line(0).to_json().replace('"schema_version":1', '"schema_version":99')
    with pytest.raises(DataError, match="schema version 99"):
        JournalLine.from_json(text)


def test_overlapping_incarnations_count_each_candidate_once(tmp_path):
    write(tmp_path / "random-0-a.jsonl", [line(0), line(1)])
    write(tmp_path / "random-0-b.jsonl", [line(1, incarnation="b"), line(2, incarnation="b")])
    merged = read_journals(tmp_path)
    assert [(item.seq, item.incarnation) for item in merged] == [(0, "a"), (1, "a"), (2, "b")]


def test_equal_candidates_of_different_trials_are_both_kept(tmp_path):
    write(tmp_path / "random-0-a.jsonl", [line(0)])
    write(tmp_path / "random-1-a.jsonl", [line(0, seed=1)])
    assert len(read_journals(tmp_path)) == 2


def test_an_empty_journal_leaves_no_file(tmp_path):
    JournalWriter(tmp_path / "a.jsonl").close()
    assert list(tmp_path.iterdir()) == []


def test_a_journal_never_appends_to_another_incarnation(tmp_path):
    write(tmp_path / "a.jsonl", [line(0)])
    with pytest.raises(FileExistsError):
        JournalWriter(tmp_path / "a.jsonl")


def test_lines_are_on_disk_before_the_journal_is_closed(tmp_path):
    journal = JournalWriter(tmp_path / "a.jsonl")
    journal.append(line(0))
    assert len(list(read_journal(tmp_path / "a.jsonl"))) == 1
    journal.close()


def test_the_frame_has_one_row_per_line_and_flat_columns():
    frame = to_frame([line(0), line(1)])
    assert frame["codes"].tolist() == ["012", "012"]
    assert frame["n_true"].tolist() == [1, 2]
    assert {"ce", "kl", "accuracy", "strategy", "wall_s", "n_forward"} <= set(frame.columns)


@given(st.lists(st.integers(0, 61)))
def test_codes_text_round_trip(codes):
    text = encode_codes(codes)
    assert len(text) == len(codes)
    assert list(decode_codes(text)) == codes
