import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.figures.front import FrontFigure, limits, thin, variants
from search.fronts import front_rows, plane
from search.pareto import knee_index
from search.stats import Z95


@pytest.fixture(params=["size_bytes", "latency_ms"])
def figure(request):
    return FrontFigure(request.param)


@pytest.fixture
def info(figure, data):
    return figure.prepare(data)


def test_front_equals_the_front_of_the_records(info, data):
    rows = front_rows(data.unique, "ce", info.cost)
    np.testing.assert_array_equal(info.front.x, data.unique[info.cost].iloc[rows])
    np.testing.assert_array_equal(info.front.y, data.unique["ce"].iloc[rows])
    assert info.front.rows == tuple(rows)


def test_errors_are_95_percent_half_widths(info, data):
    error = data.unique["standard_error"].iloc[list(info.front.rows)]
    np.testing.assert_allclose(info.front.half, Z95 * error)


def test_every_successful_policy_appears_once(info, data):
    drawn = [row for series in info.candidates for row in series.rows]
    drawn += list(info.front.rows)
    special = set(info.baselines.rows) - set(drawn)
    assert len(drawn) == len(set(drawn))
    assert set(drawn) | special == set(np.flatnonzero(data.unique["status"] == "ok"))
    assert info.total == info.shown == len(set(drawn) | special)


def test_knee_is_the_records_knee(info, data):
    points = plane(data.front_table(info.cost), "ce", info.cost)
    knee = data.front_table(info.cost)["policy_id"].iloc[knee_index(points)]
    place = info.picks.labels.index("knee")
    assert data.unique["policy_id"].iloc[info.picks.rows[place]] == knee


def test_test_values_are_those_of_front_json(info, data):
    for row, value in zip(info.test.rows, info.test.y, strict=True):
        policy_id = data.unique["policy_id"].iloc[row]
        assert value == data.front.policies[policy_id]["test"]["ce"]


def test_baselines_are_named(info):
    assert set(info.baselines.labels) == {"fp32", "w8a8", "w6a8", "w4a8", "w3a8", "w2a8"}


def test_plot_draws_what_was_prepared(figure, info):
    plotted = figure.plot(info)
    by_role = {trace.meta: trace for trace in plotted.data if trace.meta != "candidates"}
    np.testing.assert_array_equal(by_role["front"].x, info.front.x)
    assert by_role["front"].line.shape == "hv"
    assert plotted.layout.yaxis.type == "log"
    assert sum(trace.meta == "candidates" for trace in plotted.data) == len(info.candidates)


def test_latency_is_never_called_measured_without_saying_table(data):
    label = FrontFigure("latency_ms").prepare(data).x_label
    assert label == "predicted latency (ms), measured table"


def test_alt_names_both_ends(figure, info):
    sentence = figure.alt(info)
    assert str(len(info.front.x)) in sentence
    assert sentence.endswith("candidates in all.")


def test_table_holds_front_and_baselines(figure, info):
    table = figure.table(info)
    assert len(table.rows) == len(info.front.x) + len(info.baselines.x)
    assert "fp32" in table.note


def test_accuracy_axis_is_linear_and_points_up(data):
    front = dataclasses.replace(data.front, quality="accuracy")
    info = FrontFigure("size_bytes").prepare(dataclasses.replace(data, front=front))
    assert not info.log_y
    low, high = FrontFigure("size_bytes").plot(info).layout.yaxis.range
    assert low < high <= 1


def test_all_failed_is_told(data):
    failed = dataclasses.replace(data, table=data.table.assign(status="failed"))
    assert "All candidates failed" in FrontFigure("size_bytes").applicable(failed)


def test_a_front_of_one_point(data):
    front = dataclasses.replace(
        data.front,
        fronts={"size_bytes": data.front.fronts["size_bytes"][:1]},
        picks=data.front.picks[:0],
    )
    figure = FrontFigure("size_bytes")
    info = figure.prepare(dataclasses.replace(data, front=front))
    assert len(info.front.x) == 1
    assert figure.plot(info).layout.xaxis.range[0] < info.front.x[0]


def test_budgets_are_drawn(data):
    manifest = {**data.manifest, "constraints": ["size_bytes <= 90000", "latency_ms <= 0.5"]}
    limited = dataclasses.replace(data, manifest=manifest)
    assert limits(limited, "size_bytes") == (90000.0,)
    figure = FrontFigure("size_bytes")
    assert len(figure.plot(figure.prepare(limited)).layout.shapes) == 1


def test_one_figure_per_cost(data):
    assert [item.cost for item in variants(data)] == ["size_bytes", "latency_ms"]


@given(st.integers(0, 400), st.integers(1, 100), st.integers(0, 5))
def test_thinning_keeps_at_most_the_limit_and_every_cell_when_it_can(n, limit, seed):
    points = np.random.default_rng(seed).normal(size=(n, 2))
    kept = thin(points, limit)
    assert len(kept) == min(n, limit)
    assert kept == sorted(set(kept))


def test_thinning_spares_lonely_points():
    crowd = np.random.default_rng(0).normal(0, 0.01, (1000, 2))
    lonely = np.array([[5.0, 5.0], [-5.0, 5.0]])
    assert {1000, 1001} <= set(thin(np.vstack([crowd, lonely]), 50))


def test_first_view_always_holds_uniform_int8(data):
    heavy = data.table.copy()
    heavy.loc[heavy["tag"] == "w8a8", "size_bytes"] *= 3
    figure = FrontFigure("size_bytes")
    info = figure.prepare(dataclasses.replace(data, table=heavy))
    low, high = figure.plot(info).layout.xaxis.range
    assert low < float(heavy.loc[heavy["tag"] == "w8a8", "size_bytes"].iloc[0]) < high
    assert "fp32" in figure.table(info).note
