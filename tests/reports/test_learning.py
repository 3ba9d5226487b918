"""Curves of learning trials: what is drawn, hostile records."""

import dataclasses

from reports.figure import draw
from reports.figures.learning import LearningFigure, variants


def with_learning(data, **trials):
    return dataclasses.replace(data, learning={k.replace("_", "-"): v for k, v in trials.items()})


RECORD = {
    "loss": [2.0] * 20 + [0.5] * 20,
    "entropy": [1.0, 0.5, 0.1],
    "gaps": [{"gap": 0.1}, {"gap": 0.3}, {"gap": 0.2}],
}


def test_there_are_figures_for_what_was_recorded(data):
    assert variants(dataclasses.replace(data, learning={})) == []
    found = with_learning(data, rl_0={"curve": [-1.0, -0.5]}, dnas_0=RECORD)
    assert [figure.kind for figure in variants(found)] == ["curve", "loss", "entropy"]
    for figure in variants(found):
        drawn = draw(figure, found)
        assert not drawn.error
        assert drawn.alt.endswith(".")


def test_the_gap_is_told_beside_the_loss(data):
    found = with_learning(data, dnas_0=RECORD)
    drawn = draw(LearningFigure("loss"), found)
    assert "0.2 nats worse than its mixture (median of 3 budgets" in drawn.alt.replace(
        "0.200", "0.2"
    )
    assert drawn.table.rows[0][:2] == ("dnas-0", "40")


def test_records_of_other_shapes_are_ignored(data):
    bad = {"loss": "<img src=x>", "curve": [None, "x", float("nan"), True], "gaps": "none"}
    assert variants(with_learning(data, x_0=bad)) == []
    odd = {"loss": [1.0, "<b>", 2.0], "gaps": [{"gap": "x"}, 3]}
    drawn = draw(LearningFigure("loss"), with_learning(data, x_0=odd))
    assert not drawn.error
    assert drawn.table.rows[0][1] == "2"
