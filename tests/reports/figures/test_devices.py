import dataclasses

import numpy as np

from reports.figures.devices import DevicesFigure, variants
from reports.fronts import CostInfo


def several(data):
    costs = {**data.front.costs, "latency_ms@board": CostInfo("simulated", "board")}
    regret = {"latency_ms": {"latency_ms@board": 0.4}, "latency_ms@board": {"latency_ms": 0.1}}
    front = dataclasses.replace(data.front, costs=costs, regret=regret)
    return dataclasses.replace(data, front=front)


def test_one_device_has_no_figure(data):
    assert variants(data) == []
    assert "one device" in DevicesFigure().applicable(data)


def test_the_matrix_is_the_stored_regret(data):
    figure = DevicesFigure()
    info = figure.prepare(several(data))
    np.testing.assert_allclose(info.lost, [[0, 0.4], [0.1, 0]])
    assert info.names[1] == "board"
    assert "40.0 %" in figure.alt(info)
    assert figure.plot(info).data[0].text[0][1] == "40.0 %"
    assert [row[2] for row in figure.table(info).rows] == ["40.0 %", "10.0 %"]
