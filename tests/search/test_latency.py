"""Figures of an end-to-end check in closed form, and when a prediction stays unchecked."""

from dataclasses import replace

import pytest

from hw_profiles.conversions import Conversions
from hw_profiles.latency import Check, LatencyModel
from search import latency_figures
from search.latency import evidence, frame


def figures(checks):
    return latency_figures.figures(frame(checks))


def check(measured, predicted, again=None, drawn="random", **changes):
    made = Check(
        "id", "", drawn, predicted, predicted, predicted, predicted,
        measured, measured if again is None else again, measured, measured, 1.0, 1.0,
    )  # fmt: skip
    return replace(made, **changes)


def test_errors_are_relative_to_the_mean_of_both_sessions():
    found = figures([check(1.0, 1.2, again=1.0), check(3.0, 2.0, again=1.0)])
    assert found.n == 2
    assert found.additive.mape == pytest.approx((0.2 + 0.0) / 2)
    assert found.additive.bias == pytest.approx(0.1)
    assert found.noise == pytest.approx((0.0 + 1.0) / 2)


def test_uniform_policies_fitted_the_line_and_are_left_out():
    rows = [check(1.0, 9.0, drawn="uniform"), check(1.0, 1.1), check(2.0, 2.2)]
    assert figures(rows).additive.mape == pytest.approx(0.1)
    assert figures(rows[:1]) is None


def test_rankings_are_compared_with_each_predictor():
    rows = [
        check(float(i), float(i), node_sum_ms=-float(i), bops=float(i), size_bytes=1.0 + (i == 2))
        for i in range(1, 6)
    ]
    found = figures(rows)
    assert found.additive.tau == 1.0
    assert found.additive.tau_low == 1.0
    assert found.node_sum.tau == -1.0
    assert found.self_tau == 1.0
    assert found.bops_tau == 1.0
    assert -1 < found.size_tau < 1


def test_the_table_names_the_range_of_both_sessions():
    (row,) = frame([check(2.0, 1.0, again=1.5)]).to_dict("records")
    assert (row["low_ms"], row["high_ms"], row["measured_ms"]) == (1.5, 2.0, 2.0)
    assert frame([]).empty


def test_a_model_without_mixed_checks_is_not_validated():
    model = LatencyModel(Conversions(1.0, {}, (), 30, 0.01))
    assert evidence(model)["validated"] is False
    checked = replace(model, checks=(check(1.0, 1.1), check(2.0, 2.2)))
    found = evidence(checked)
    assert found["validated"] is True
    assert found["check"]["additive"]["mape"] == pytest.approx(0.1)
