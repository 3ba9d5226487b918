import dataclasses

import numpy as np
import pytest

from reports.figures.cost_parts import BETWEEN, PartsFigure


@pytest.mark.parametrize("cost", ["size_bytes", "latency_ms"])
def test_parts_sum_to_the_total(data, cost):
    info = PartsFigure(cost).prepare(data)
    rows = data.unique.set_index("tag")
    for column, name in enumerate(info.policies):
        if name in rows.index:
            assert info.values[:, column].sum() == pytest.approx(rows.loc[name, cost])


def test_costs_beyond_the_layers_are_conversions(data):
    dearer = data.table.assign(latency_ms=data.table["latency_ms"] + 0.1)
    info = PartsFigure("latency_ms").prepare(dataclasses.replace(data, table=dearer))
    assert info.parts[-1] == BETWEEN
    np.testing.assert_allclose(info.values[-1], 0.1)


def test_without_conversions_there_is_no_such_part(data):
    assert BETWEEN not in PartsFigure("size_bytes").prepare(data).parts


def test_bars_are_baselines_then_picks(data):
    info = PartsFigure("size_bytes").prepare(data)
    assert info.policies[0] == "w8a8"
    assert "fp32" not in info.policies
    assert any(name.startswith("knee ") for name in info.policies)


def test_plot_table_and_alt(data):
    figure = PartsFigure("size_bytes")
    info = figure.prepare(data)
    assert len(figure.plot(info).data) == len(info.parts)
    assert len(figure.table(info).rows) == len(info.parts)
    assert "weight size" in figure.alt(info)


def test_without_tables_it_says_so(data):
    without = dataclasses.replace(data, tables={})
    assert "costs.json" in PartsFigure("latency_ms").applicable(without)
