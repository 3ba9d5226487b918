import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.figures.attainment import AttainmentFigure, attained


def test_a_staircase_in_closed_form():
    points = np.array([[3.0, 1.0], [2.0, 2.0], [5.0, 2.5], [1.0, 3.0]])
    grid = np.array([0.5, 1.0, 1.5, 2.0, 2.9, 3.0, 9.0])
    assert attained(points, grid).tolist() == [np.inf, 3, 3, 2, 2, 1, 1]


@given(st.integers(1, 40), st.integers(0, 99))
def test_attained_is_the_slow_minimum(n, seed):
    rng = np.random.default_rng(seed)
    points, grid = rng.random((n, 2)), rng.random(20)
    slow = [min([p[0] for p in points if p[1] <= cost], default=np.inf) for cost in grid]
    np.testing.assert_array_equal(attained(points, grid), slow)


def test_surfaces_are_quartiles_of_the_seeds(data):
    info = AttainmentFigure("size_bytes").prepare(data)
    assert [s.strategy for s in info.surfaces] == list(data.strategies())
    surface = info.surfaces[0]
    assert surface.seeds == 3
    parts = []
    for strategy, _, rows in data.trials():
        if strategy == surface.strategy:
            good = rows[rows["status"] == "ok"]
            parts.append(attained(good[["ce", "size_bytes"]].to_numpy(), info.grid))
    np.testing.assert_array_equal(surface.median, np.sort(parts, axis=0)[1])
    assert (surface.low <= surface.median).all()
    assert (surface.median <= surface.high).all()


def test_losses_never_rise_with_cost(data):
    for surface in AttainmentFigure("latency_ms").prepare(data).surfaces:
        reached = surface.median[np.isfinite(surface.median)]
        assert (np.diff(reached) <= 0).all()


def test_accuracy_is_shown_upright(data):
    front = dataclasses.replace(data.front, quality="accuracy")
    figure = AttainmentFigure("size_bytes")
    plotted = figure.plot(figure.prepare(dataclasses.replace(data, front=front)))
    medians = [trace for trace in plotted.data if trace.name]
    assert all(0 <= y <= 1 for trace in medians for y in trace.y)
    assert plotted.layout.yaxis.type is None


def test_few_seeds_are_told(data):
    single = dataclasses.replace(data, table=data.table[data.table["seed"] == 0])
    assert "at least 3 seeds" in AttainmentFigure("size_bytes").applicable(single)


def test_table_and_alt(data):
    figure = AttainmentFigure("size_bytes")
    info = figure.prepare(data)
    table = figure.table(info)
    assert len(table.rows) == 4
    assert len(table.columns) == len(table.rows[0])
    assert "half of the runs" in figure.alt(info)
    assert pytest.approx(info.grid[-1]) == data.ok[data.ok["searchable"]]["size_bytes"].max()
