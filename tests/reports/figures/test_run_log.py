import dataclasses

import numpy as np
import pytest

from reports.failures import failures, failures_card
from reports.figures.run_log import MOST_TICKS, RunLogFigure, busy_line
from reports.timeline import LONGEST_PAUSE_S, Worker, without_pauses, workers


def stamped(data, begin=1000.0, gap=0.0):
    """The run with times of day: seed 1 and 2 start ``gap`` seconds after seed 0 ended."""
    later = data.table["seed"].to_numpy() > 0
    end = begin + data.table["wall_s"] + np.where(later, gap + data.table["wall_s"].max(), 0.0)
    return dataclasses.replace(data, table=data.table.assign(unix_s=end, incarnation="x"))


def test_workers_and_failures_are_those_of_the_records(data):
    info = RunLogFigure().prepare(data)
    assert len(info.workers) == 12
    first = info.workers[0]
    assert first.name == "random-0"
    assert int(first.failed.sum()) == 2
    rows = data.table[(data.table["strategy"] == "random") & (data.table["seed"] == 0)]
    assert info.best[0] == rows["ce"].min()
    np.testing.assert_array_equal(first.took, rows["eval_s"])
    assert first.busy == pytest.approx(rows["eval_s"].sum() / first.seconds)


def test_journals_without_the_time_of_day_start_every_worker_at_zero(data):
    old = dataclasses.replace(data, table=data.table.drop(columns="unix_s"))
    found, absolute = workers(old)
    assert not absolute
    assert {worker.start for worker in found} == {0.0}
    assert (
        "since the trial began"
        in RunLogFigure().plot(RunLogFigure().prepare(old)).layout.xaxis.title.text
    )


def test_workers_share_one_clock(data):
    found, absolute = workers(stamped(data))
    assert absolute
    assert min(worker.start for worker in found) == 0
    first, second = (next(w for w in found if w.name == name) for name in ("random-0", "random-1"))
    assert second.start >= first.end[-1] - 1e-6


def test_the_name_of_an_attempt_tells_when_it_began(data):
    now = 1_760_000_000.0
    named = stamped(data, begin=now)
    attempt = f"{int((now - 3) * 1e9):x}"
    named = dataclasses.replace(named, table=named.table.assign(incarnation=attempt))
    found, _ = workers(named)
    assert found[0].start == 0
    assert found[0].end[0] == pytest.approx(3 + data.table["wall_s"].min(), abs=2)


def test_a_second_attempt_is_a_worker_of_its_own(data):
    table = stamped(data).table
    half = table["incarnation"].where(np.arange(len(table)) % 2 == 0, "y")
    found, _ = workers(dataclasses.replace(data, table=table.assign(incarnation=half)))
    assert [w.name for w in found[:2]] == ["random-0", "random-0 (2)"]


def test_long_pauses_are_cut_out():
    clock = without_pauses([(100.0, 110.0), (105.0, 130.0), (130.0 + 2 * LONGEST_PAUSE_S, 300.0)])
    moved = clock(np.array([100.0, 130.0, 130.0 + 2 * LONGEST_PAUSE_S, 300.0]))
    np.testing.assert_allclose(moved, [0, 30, 30, 30 + 170 - 2 * LONGEST_PAUSE_S])


def test_short_pauses_stay():
    clock = without_pauses([(0.0, 10.0), (10.0 + LONGEST_PAUSE_S, 80.0)])
    assert clock(np.array([80.0])) == 80


def test_failures_are_crosses(data):
    figure = RunLogFigure()
    crosses = [t for t in figure.plot(figure.prepare(data)).data if t.marker.symbol == "x"]
    assert [len(trace.x) for trace in crosses] == [2]


def test_failures_are_grouped_by_message_with_one_trace(data):
    table = data.table.copy()
    bad = table.index[table["status"] != "ok"]
    table.loc[bad, "error"] = ["out of memory\nsearch/a.py:3 f", "out of memory\nsearch/a.py:9 g"]
    changed = dataclasses.replace(data, table=table)
    (found,) = failures(changed)
    assert (found.message, found.count, found.trials) == ("out of memory", 2, ("random-0",))
    assert found.trace == "search/a.py:3 f"
    assert found.policy_id == table.loc[bad[0], "policy_id"]
    card = failures_card(changed)
    assert "search/a.py:3 f" in card
    assert "search/a.py:9 g" not in card


def test_reasons_are_escaped(data):
    table = data.table.assign(error="<script>x</script>\n<b>")
    card = failures_card(dataclasses.replace(data, table=table))
    assert "<script>" not in card
    assert "<b>" not in card


def test_nothing_failed(data):
    fine = dataclasses.replace(data, table=data.table.assign(status="ok"))
    assert failures(fine) == []
    assert "Nothing failed" in failures_card(fine)


def test_long_trials_are_thinned_but_keep_their_end():
    end = np.arange(1.0, 5001.0)
    worker = Worker("a-0", "a", 0, "x", 0.0, end, np.full(5000, 0.5), np.zeros(5000, bool))
    edges, rows = busy_line(worker, 3)
    assert len(edges) == 3 * MOST_TICKS
    assert edges[-3:] == [4999.5, 5000.0, None]
    assert rows[-3:] == [3, 3, None]


def test_a_trial_of_failures_has_no_best(data):
    failed = data.table.assign(status="failed", ce=float("nan"))
    figure = RunLogFigure()
    info = figure.prepare(dataclasses.replace(data, table=failed))
    assert figure.table(info).rows[0][3] == "–"
