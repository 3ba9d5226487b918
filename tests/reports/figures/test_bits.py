import numpy as np
import pytest

from reports.figures.bits import BitsFigure, discrete_scale
from reports.theme import bits_colour


@pytest.fixture
def info(data):
    return BitsFigure("size_bytes").prepare(data)


def test_bits_are_those_of_the_front_policies(info, data):
    assert info.weight.shape == (len(data.space.layers), len(data.front.fronts["size_bytes"]))
    for column, policy_id in enumerate(info.policy_ids):
        codes = data.front.policies[policy_id]["codes"]
        policy = data.space.policy(data.codes(codes))
        assert info.weight[:, column].tolist() == [policy[n].weight.bits for n in info.layers]


def test_share_at_the_fewest_bits(info):
    np.testing.assert_allclose(info.at_minimum, (info.weight == 2).mean(axis=1))


def test_equal_activations_need_no_second_panel(info):
    assert not info.mixed_activations
    traces = BitsFigure("size_bytes").plot(info).data
    assert [trace.meta for trace in traces] == ["bits", "margin"]


def test_colours_step_with_the_widths():
    scale = discrete_scale([2, 8])
    assert scale == [
        [0.0, bits_colour(2)],
        [0.5, bits_colour(2)],
        [0.5, bits_colour(8)],
        [1.0, bits_colour(8)],
    ]


def test_cells_carry_numbers_only_while_they_fit(info):
    figure = BitsFigure("size_bytes")
    assert figure.plot(info).data[0].texttemplate is None
    assert len(info.policy_ids) > 40


def test_small_fronts_print_the_bits(data):
    figure = BitsFigure("latency_ms")
    heatmap = figure.plot(figure.prepare(data)).data[0]
    assert heatmap.texttemplate == "%{text}"
    assert set(np.unique(heatmap.text)) <= {"2", "3", "4", "6", "8"}


def test_alt_and_table(info, data):
    figure = BitsFigure("size_bytes")
    assert "Least often at their fewest bits" in figure.alt(info)
    assert len(figure.table(info).rows) == len(data.space.layers)
