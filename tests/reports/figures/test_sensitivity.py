import dataclasses

import numpy as np
import pytest

from reports.figures.sensitivity import (
    SensitivityFigure,
    agreement_text,
    rank_agreement,
    score_table,
    variants,
)


@pytest.fixture
def figure():
    return SensitivityFigure("hutchinson", 400, "sensitivity-hutchinson")


@pytest.fixture
def info(figure, data):
    return figure.prepare(data)


def test_layers_are_sorted_by_their_worst_score(info):
    worst = np.nanmax([series.value for series in info.choices], axis=0)
    assert (np.diff(worst) <= 0).all()
    assert len(info.layers) == 14


def test_values_are_the_stored_scores(info, data):
    stored = data.sensitivity[data.sensitivity["kind"] == "hutchinson"]
    stored = stored.set_index(["layer", "choice"])["value"]
    two_bits = info.choices[0]
    assert (two_bits.label, two_bits.bits) == ("w2a8", 2)
    for layer, value in zip(info.layers, two_bits.value, strict=True):
        assert value == stored[layer, "int2src/int8ut"]


def test_float_scores_of_zero_are_not_drawn_on_a_log_axis(info):
    assert "fp32" not in {series.label for series in info.choices}


def test_score_table_is_indexed_by_codes(data):
    table = score_table(data, "hutchinson")
    assert table.shape == (14, 6)
    assert (table[:, 0] > table[:, 4]).all()
    assert (table[:, 5] == 0).all()


def test_scores_that_made_the_losses_rank_them_perfectly(data):
    truth, n = rank_agreement(data, "hutchinson")
    assert n == int(((data.unique["status"] == "ok") & data.unique["searchable"]).sum())
    assert truth > 0.98  # losses are these scores plus neighbour terms, capped, plus noise


def test_reversed_scores_are_told(data):
    wrong = data.sensitivity.assign(value=1 / (data.sensitivity["value"] + 1e-9))
    truth, _ = rank_agreement(dataclasses.replace(data, sensitivity=wrong), "hutchinson")
    assert truth < -0.3


def test_too_few_policies_are_told(info):
    assert "Too few" in agreement_text(dataclasses.replace(info, truth=float("nan")))


def test_plot_and_table(figure, info):
    plotted = figure.plot(info)
    assert len(plotted.data) == len(info.choices)
    assert plotted.layout.xaxis.type == "log"
    assert len(figure.table(info).rows) == 14
    assert info.layers[0] in figure.alt(info)


def test_without_scores_it_says_so(data):
    without = dataclasses.replace(data, sensitivity=None)
    (figure,) = variants(without)
    assert "asked for sensitivity" in figure.applicable(without)
    assert [item.kind for item in variants(data)] == ["hutchinson", "sqnr"]


def test_rules_pin_exactly_the_most_sensitive_layers(info, data):
    import yaml

    from spaces.config import SpaceConfig

    content = {"name": "x", "weights": ["int4src"], "activations": ["int8ut"]}
    config = SpaceConfig.from_dict({**content, **yaml.safe_load(info.rules)})
    count = len(data.space.layers)
    for rule, wanted in zip(config.rules, info.layers[:5], strict=True):
        assert [x.name for x in data.space.layers if rule.matches(x, count)] == [wanted]
        assert [choice.weight.bits for choice in rule.choices] == [8]
