import dataclasses

import numpy as np

from reports.figures.ladder import LadderFigure, variants


def climbed(data):
    ids = data.front.fronts["size_bytes"][:3]
    policies = {i: {**data.front.policies[i], "ce": 0.1 + k} for k, i in enumerate(ids)}
    agreement = {
        "lower": "rtn",
        "upper": "gptq",
        "kendall_tau": 0.83,
        "low": 0.7,
        "high": 0.92,
        "n": 20,
    }
    ladder = {
        "method": "gptq",
        "agreements": [agreement, {**agreement, "kendall_tau": None}],
        "fronts": {"size_bytes": list(ids), "latency_ms": []},
        "policies": policies,
    }
    return dataclasses.replace(data, front=dataclasses.replace(data.front, ladder=ladder))


def test_one_rung_has_no_figure(data):
    assert variants(data) == []
    assert LadderFigure("size_bytes").applicable(data) == "The run has one rung."


def test_both_fronts_with_the_values_each_rung_gave(data):
    figure = LadderFigure("size_bytes")
    rungs = climbed(data)
    info = figure.prepare(rungs)
    np.testing.assert_allclose(info.last[:, 1], [0.1, 1.1, 2.1])
    stored = [data.front.policies[i]["ce"] for i in data.front.fronts["size_bytes"]]
    np.testing.assert_allclose(info.first[:, 1], stored)
    assert [len(trace.x) for trace in figure.plot(info).data] == [len(stored), 3]
    assert "Kendall tau of 0.83 [0.70, 0.92]" in figure.alt(info)
    assert "undefined over 20 policies" in figure.alt(info)
    assert len(figure.table(info).rows) == 3


def test_a_cost_without_a_last_front_says_so(data):
    assert LadderFigure("latency_ms").applicable(climbed(data))
