import dataclasses

from reports.figures.run_log import RunLogFigure, _thinned


def test_trials_and_failures_are_those_of_the_records(data):
    info = RunLogFigure().prepare(data)
    assert len(info.trials) == 12
    first = info.trials[0]
    assert first.name == "random-0"
    assert sum(first.failed) == 2
    assert info.reasons == (("loss is not a number", 2),)
    rows = data.table[(data.table["strategy"] == "random") & (data.table["seed"] == 0)]
    assert first.best == rows["ce"].min()
    assert first.seconds == tuple(rows["wall_s"])


def test_failures_are_crosses(data):
    figure = RunLogFigure()
    crosses = [t for t in figure.plot(figure.prepare(data)).data if t.marker.symbol == "x"]
    assert [len(trace.x) for trace in crosses] == [2]


def test_table_groups_reasons(data):
    figure = RunLogFigure()
    table = figure.table(figure.prepare(data))
    assert "2 x loss is not a number" in table.note
    assert len(table.rows) == 12


def test_long_trials_are_thinned_but_keep_their_end():
    seconds = tuple(float(i) for i in range(5000))
    assert len(_thinned(seconds)) == 200
    assert _thinned(seconds)[-1] == 4999


def test_a_trial_of_failures_has_no_best(data):
    failed = data.table.assign(status="failed", ce=float("nan"))
    figure = RunLogFigure()
    info = figure.prepare(dataclasses.replace(data, table=failed))
    assert figure.table(info).rows[0][3] == "–"
