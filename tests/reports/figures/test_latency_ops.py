"""The table's error by op type."""

import dataclasses

import pandas as pd
import pytest

from reports.figures.latency_ops import FACETS, LatencyOpFigure, variants
from reports.kernels import ops_card
from search.latency_figures import op_figures
from tests.support.synthetic_run import HOSTILE


def rows(*items):
    columns = ("policy_id", "drawn", "op", "nodes", "predicted_ms", "measured_ms")
    return pd.DataFrame(items, columns=columns)


def test_errors_in_closed_form_over_the_mixed_policies():
    conv, add = op_figures(
        rows(
            ("a", "random", "Conv", 3, 0.9, 1.0),
            ("b", "random", "Conv", 3, 2.4, 2.0),
            ("b", "random", "Add", 1, 0.5, 1.0),
            ("u", "uniform", "Conv", 3, 9.0, 1.0),
        )
    )
    assert (conv.op, conv.policies, conv.share) == ("Conv", 2, 0.75)
    assert (conv.node_us, add.node_us) == (500.0, 1000.0)
    assert conv.error == pytest.approx((0.1 + 0.4) / 3)
    assert conv.bias == pytest.approx((-0.1 + 0.4) / 3)
    assert (add.op, add.policies, add.error, add.bias) == ("Add", 1, 0.5, -0.5)


def test_uniform_policies_are_judged_when_there_are_no_others():
    (found,) = op_figures(rows(("u", "uniform", "Conv", 3, 1.0, 2.0)))
    assert found.bias == -0.5


def test_times_below_the_resolution_are_left_out():
    found = op_figures(
        rows(("a", "random", "Conv", 3, 1.0, 1.0), ("a", "random", "Add", 1, 1.0, 0.0))
    )
    assert [item.op for item in found] == ["Conv"]


def test_points_are_the_stored_times(data):
    stored = data.latency_ops
    figures = variants(data)
    assert [figure.prepare(data).found for figure in figures] == list(op_figures(stored))
    for figure in figures:
        info = figure.prepare(data)
        part = stored[stored["op"] == info.found.op]
        assert info.measured.tolist() == part["measured_ms"].tolist()
        assert info.predicted.tolist() == part["predicted_ms"].tolist()
        assert int(info.mixed.sum()) == info.found.policies
        assert len(figure.table(info).rows) == len(part)
        drawn = figure.plot(info)
        assert sum(len(trace.text or ()) for trace in drawn.data) == len(part)


def test_the_dearest_are_drawn_and_all_are_listed(data):
    many = [(f"p{i}", "random", f"op{k}", 1, 1.0 + i, 1.0 + k) for i in range(3) for k in range(8)]
    changed = dataclasses.replace(data, latency_ops=rows(*many))
    assert [figure.prepare(changed).found.op for figure in variants(changed)] == [
        f"op{k}" for k in range(7, 7 - FACETS, -1)
    ]
    card = ops_card(changed)
    assert all(f"op{k}" in card for k in range(8))


def test_hostile_names_are_escaped(data):
    changed = dataclasses.replace(data, latency_ops=rows(("a", "random", HOSTILE, 1, 1.0, 1.0)))
    (figure,) = variants(changed)
    drawn = figure.plot(figure.prepare(changed))
    assert "<img" not in drawn.layout.xaxis.title.text
    assert "<img" not in ops_card(changed)


def test_a_run_without_profiles_has_no_such_figure(data):
    for none in (None, rows()):
        changed = dataclasses.replace(data, latency_ops=none)
        assert variants(changed) == []
        assert ops_card(changed) is None
        assert "not profiled" in LatencyOpFigure(0).applicable(changed)
