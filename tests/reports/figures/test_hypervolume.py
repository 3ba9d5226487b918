import dataclasses

import numpy as np
import pandas as pd
import pytest

from reports.figures.hypervolume import (
    Curve,
    HypervolumeFigure,
    differences,
    step,
    summarise,
    variants,
)
from search.fronts import plane
from search.pareto import anytime_hypervolume


@pytest.fixture(params=["evaluations", "seconds"])
def figure(request):
    return HypervolumeFigure("size_bytes", request.param, f"hypervolume-{request.param}")


def test_curves_equal_the_records(figure, data):
    info = figure.prepare(data)
    reference = data.front.reference["size_bytes"]
    for curve, (strategy, seed, rows) in zip(info.curves, data.trials(), strict=True):
        assert (curve.strategy, curve.seed) == (strategy, seed)
        points = plane(rows, "ce", "size_bytes")
        expected = anytime_hypervolume(
            points, np.array(reference.ideal), np.array(reference.point)
        )
        np.testing.assert_allclose(curve.share, expected)
        stored = data.front.hypervolume["size_bytes"]["by_trial"][f"{strategy}-{seed}"]
        assert curve.share[-1] == pytest.approx(stored)
    assert info.together == pytest.approx(data.front.hypervolume["size_bytes"]["all"])


def test_scores_count_as_spent(data):
    info = HypervolumeFigure("size_bytes", "evaluations").prepare(data)
    first = {curve.strategy: curve.spent[0] for curve in info.curves}
    assert first["random"] == 1  # one evaluation
    assert first["hawq"] == 13  # and 12 evaluation-equivalents of scores


def test_failed_candidates_cost_but_do_not_count(data):
    info = HypervolumeFigure("size_bytes", "evaluations").prepare(data)
    curve = next(c for c in info.curves if (c.strategy, c.seed) == ("random", 0))
    assert curve.share[:2].tolist() == [0, 0]
    assert curve.spent[:3].tolist() == [1, 2, 3]


def test_step_takes_the_last_candidate_before():
    curve = Curve("a", 0, np.array([1.0, 2.0, 4.0]), np.array([0.1, 0.2, 0.3]))
    assert step(curve, np.array([0.5, 1, 1.9, 2, 3.9, 9])).tolist() == [0, 0.1, 0.1, 0.2, 0.2, 0.3]


def test_summaries_are_quartiles():
    curves = tuple(
        Curve("a", seed, np.array([1.0, 3.0]), np.array([level, level + 1]))
        for seed, level in enumerate([0.0, 1.0, 2.0, 3.0, 4.0])
    )
    summary = summarise(curves, "a")
    assert summary.seeds == 5
    assert (summary.low[0], summary.median[0], summary.high[0]) == (1, 2, 3)
    assert (summary.low[-1], summary.median[-1], summary.high[-1]) == (2, 3, 4)


def test_differences_to_random():
    finals = {"random": np.full(10, 0.5), "hawq": np.full(10, 0.7), "same": np.full(10, 0.5)}
    found = {item.strategy: item for item in differences(finals)}
    assert found["hawq"].median == found["hawq"].low == pytest.approx(0.2)
    assert found["same"].low == found["same"].high == 0
    assert "random" not in found
    assert differences({"hawq": np.ones(3)}) == ()


def test_bands_from_three_seeds_and_lines_below(figure, data):
    info = figure.prepare(data)
    assert [item.strategy for item in info.summaries] == list(data.strategies())
    names = {trace.name for trace in figure.plot(info).data if trace.name}
    assert "random (n=3)" in names
    assert "indicative" in figure.table(info).note


def test_single_seeds_are_drawn_as_steps_of_improvement(figure, data):
    table = data.table[(data.table["seed"] == 0) | (data.table["strategy"] == "baseline")]
    assert isinstance(table, pd.DataFrame)
    single = type(data)(
        **{**{f: getattr(data, f) for f in data.__dataclass_fields__}, "table": table}
    )
    info = figure.prepare(single)
    assert info.summaries == ()
    lines = [trace for trace in figure.plot(info).data if "seed" in (trace.name or "")]
    assert len(lines) == 4
    for trace, curve in zip(lines, info.curves, strict=True):
        assert trace.y[-1] == curve.share[-1]
        assert len(trace.y) <= len(curve.share)


def test_variants_cover_both_axes_and_all_costs(data):
    assert len(variants(data)) == 4


@pytest.mark.parametrize(("scores", "axis"), [(12.0, "linear"), (900.0, "log")])
def test_costly_scores_make_the_axis_logarithmic(data, scores, axis):
    spent = data.table["n_forward"].where(data.table["n_forward"] == 0, scores)
    figure = HypervolumeFigure("size_bytes", "evaluations")
    costly = dataclasses.replace(data, table=data.table.assign(n_forward=spent))
    assert figure.plot(figure.prepare(costly)).layout.xaxis.type == axis
