"""Budget sweeps: closed form, and the published tables where they are there."""

import json

import numpy as np
import pytest

from search.rl.projection import budget_sweep
from tests.support.shared_data import shared_data

FLOOR = 2


def lower(side, pinned=()):
    def step(layer, widths):
        if layer in pinned or widths[side] <= FLOOR:
            return None
        less = list(widths)
        less[side] -= 1
        return tuple(less)

    return step


def test_layers_give_up_inputs_then_weights_from_the_last_to_the_first():
    states, seen = [(8, 8)] * 3, []

    def cost(found):
        seen.append(list(found))
        return sum(sum(widths) for widths in found)

    found, sweeps = budget_sweep(states, cost, 45, [lower(1), lower(0)])
    assert found == [(8, 8), (8, 7), (7, 7)]
    assert sweeps == 1
    assert seen[1:] == [
        [(8, 8), (8, 8), (8, 7)],
        [(8, 8), (8, 8), (7, 7)],
        [(8, 8), (8, 7), (7, 7)],
    ]


def test_a_policy_within_its_budget_stays():
    assert budget_sweep([(4, 4)], lambda _: 3.0, 3.0, [lower(0)]) == ([(4, 4)], 0)


def test_an_unreachable_budget_ends_at_the_floor():
    found, sweeps = budget_sweep([(8, 8), (3, 2)], lambda _: 1.0, 0.0, [lower(1), lower(0)])
    assert found == [(2, 2), (2, 2)]
    assert sweeps == 7


@pytest.mark.parametrize("ratio", ["0.9", "0.75", "0.6", "0.556", "0.5", "0.4"])
@pytest.mark.parametrize("form", ["as_coded", "layer0_a8"])
def test_published_tables_are_swept_as_their_authors_sweep(ratio, form):
    folder = shared_data("haq")
    reference = json.loads((folder / "budget_sweep_reference.json").read_text())
    table = np.array(json.loads((folder / "mobilenetv2_latency_table.json").read_text())["values"])
    expected = reference[f"all8_ratio{ratio}_{form}"]
    layers = len(table)
    # The published code indexes the input width of the first layer with -1: the 7-bit column.
    first = 7 if form == "as_coded" else 8

    def cost(found):
        inputs = [first if layer == 0 else found[layer][1] for layer in range(layers)]
        return sum(
            int(table[layer, found[layer][0] - 1, inputs[layer] - 1]) for layer in range(layers)
        )

    pinned = (0, layers - 1)
    limit = float(ratio) * reference["_meta"]["org_cost_all8"]
    found, sweeps = budget_sweep(
        [(8, 8)] * layers, cost, limit, [lower(1, pinned), lower(0, pinned)]
    )
    final = [list(widths) for widths in found]
    final[0][1] = -1
    assert final == expected["final"]
    assert sweeps == expected["sweeps"]
    assert cost(found) == expected["cost"]
