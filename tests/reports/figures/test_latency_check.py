import dataclasses

import numpy as np
import pandas as pd
import pytest

from reports.figures.latency_check import LatencyCheckFigure, fit, variants


def checked(data, predicted, measured):
    frame = pd.DataFrame(
        {
            "policy_id": [f"p{i}" for i in range(len(predicted))],
            "tag": "",
            "predicted_ms": predicted,
            "measured_ms": measured,
            "low_ms": np.array(measured) * 0.9,
            "high_ms": np.array(measured) * 1.2,
        }
    )
    return dataclasses.replace(data, latency_check=frame)


def test_error_rank_and_fit_in_closed_form(data):
    predicted = np.array([1.0, 2.0, 4.0])
    info = LatencyCheckFigure().prepare(checked(data, predicted, 1.5 * predicted + 0.5))
    assert info.slope == pytest.approx(1.5)
    assert info.overhead_ms == pytest.approx(0.5)
    assert info.tau == 1
    assert info.mape == pytest.approx(np.mean([0.5, 1.5 / 3.5, 2.5 / 6.5]))
    assert np.isnan(info.node_sum).all()


def test_wrong_ranks_are_seen(data):
    assert LatencyCheckFigure().prepare(checked(data, [1.0, 2.0], [2.0, 1.0])).tau == -1


def test_a_single_policy_has_an_overhead_but_no_slope():
    assert fit(np.array([2.0]), np.array([2.5])) == (1.0, 0.5)


def test_measurements_carry_their_interval(data):
    figure = LatencyCheckFigure()
    info = figure.prepare(checked(data, [1.0, 2.0], [1.0, 2.0]))
    trace = next(t for t in figure.plot(info).data if t.name == "measured")
    np.testing.assert_allclose(trace.error_y.array, [0.2, 0.4])
    np.testing.assert_allclose(trace.error_y.arrayminus, [0.1, 0.2])


def test_names_are_tags_or_ids(data):
    figure = LatencyCheckFigure()
    info = figure.prepare(data)
    assert "fp32" in info.names
    assert len(figure.table(info).rows) == len(data.latency_check)
    assert "Kendall tau" in figure.alt(info)


def test_without_a_check_it_says_so(data):
    without = dataclasses.replace(data, latency_check=None)
    assert "not checked end to end" in LatencyCheckFigure().applicable(without)
    assert len(variants(without)) == 1
    front = dataclasses.replace(data.front, costs={"size_bytes": data.front.costs["size_bytes"]})
    assert variants(dataclasses.replace(without, front=front)) == []


def test_policies_used_for_the_fit_are_no_evidence(data):
    info = LatencyCheckFigure().prepare(data)
    assert 0 < info.fitted.sum() < len(info.names)
    assert info.figures.n == (~info.fitted).sum()
    assert info.mape == pytest.approx(info.figures.additive.mape)
    assert data.latency_error() == pytest.approx(info.mape)
    assert info.tau == pytest.approx(info.figures.additive.tau)


def test_the_noise_floor_stands_beside_the_error(data):
    figure = LatencyCheckFigure()
    info = figure.prepare(data)
    text = figure.alt(info)
    assert f"differ by {100 * info.figures.noise:.1f} %" in text
    assert "ranked by bit operations" in text
    table = figure.table(info)
    assert "wall p99 ms" in table.columns
    assert {row[1] for row in table.rows} == {"fit", "check"}
    assert len(figure.plot(info).data) == 6
