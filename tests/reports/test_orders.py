import dataclasses
import itertools

import numpy as np

from reports.orders import block_of, layer_orders


def test_orders_are_permutations_and_execution_is_as_stored(data):
    orders = layer_orders(data)
    count = len(data.space.layers)
    assert orders["execution"] == list(range(count))
    assert list(orders) == ["execution", "block", "hutchinson", "sqnr"]
    for order in orders.values():
        assert sorted(order) == list(range(count))


def test_the_most_sensitive_layer_comes_first(data):
    order = layer_orders(data)["hutchinson"]
    rows = data.sensitivity
    lowest = rows[(rows["kind"] == "hutchinson") & (rows["choice"] == "int2src/int8ut")]
    values = lowest.set_index("group")["value"]
    harm = [values[data.space.group_of[layer.name]] for layer in data.space.layers]
    assert (np.diff([harm[i] for i in order]) <= 0).all()


def test_layers_of_a_block_stand_together(data):
    names = [data.space.layers[i].name for i in layer_orders(data)["block"]]
    blocks = [block_of(name) for name in names]
    changes = sum(a != b for a, b in itertools.pairwise(blocks))
    # "stem" and "head" have no module before them: one block, in two places of the model.
    assert changes == len(set(blocks)) - 1


def test_without_scores_there_is_nothing_to_sort_by(data):
    assert list(layer_orders(dataclasses.replace(data, sensitivity=None))) == [
        "execution",
        "block",
    ]
