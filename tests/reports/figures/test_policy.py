import dataclasses

import numpy as np
import pytest

from reports.figures.policy import PolicyFigure, bars, default_selection
from reports.layers import layer_costs


def test_default_is_the_knee(data):
    assert default_selection(data, "size_bytes") == data.front.pick("knee", "size_bytes")
    without = dataclasses.replace(data, front=dataclasses.replace(data.front, picks=()))
    assert default_selection(without, "size_bytes") == data.front.fronts["size_bytes"][-1]


def test_layer_costs_are_the_tables(data):
    codes = np.arange(14) % 5
    table = data.tables["latency_ms"][np.arange(14), codes]
    np.testing.assert_allclose(layer_costs(data, "latency_ms", codes), table)


def test_tied_layers_split_their_groups_cost(data):
    space = data.space
    first, second = space.groups[:2]
    tied = dataclasses.replace(first, layers=first.layers + second.layers)
    small = dataclasses.replace(
        data,
        space=dataclasses.replace(space, layers=space.layers[:2], groups=(tied,)),
        tables={"latency_ms": np.array([[3.0, 9.0]])},
    )
    macs = np.array([layer.macs for layer in space.layers[:2]])
    np.testing.assert_allclose(
        layer_costs(small, "latency_ms", np.array([1])), 9.0 * macs / macs.sum()
    )


def test_bars_fill_the_axis_and_small_layers_stay_visible():
    left, width = bars(np.array([0.0, 0.25, 0.75]))
    assert width.sum() == pytest.approx(100)
    assert left[0] == 0
    np.testing.assert_allclose(left[1:], np.cumsum(width)[:-1])
    assert width[0] > 5


def test_plot_and_table_show_the_policy(data):
    figure = PolicyFigure("size_bytes")
    info = figure.prepare(data)
    policy = data.space.policy(data.codes(data.front.policies[info.policy_id]["codes"]))
    assert info.weight == tuple(policy[name].weight.bits for name in info.layers)
    assert list(figure.plot(info).data[0].y) == list(info.weight)
    assert [row[0] for row in figure.table(info).rows] == list(info.layers)
    assert info.policy_id in figure.alt(info)
