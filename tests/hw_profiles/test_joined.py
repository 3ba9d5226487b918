"""Costs of several devices side by side, and choices that gain nothing."""

from dataclasses import replace

import numpy as np
import pytest

from hw_profiles.joined import JoinedCosts
from hw_profiles.pruning import without_losers
from search.finish import regret
from search.objectives import objective
from spaces.choices import parse_choice
from tests.hw_profiles.layers import conv, linear, space_of


class Fake:
    """A cost model of given tables."""

    def __init__(self, **tables):
        self.tables = {name: np.array(table, float) for name, table in tables.items()}
        self.metrics = tuple(self.tables)

    def table(self, metric):
        return self.tables[metric]

    def costs(self, codes):
        codes = np.atleast_2d(codes)
        rows = np.arange(codes.shape[1])
        return {name: table[rows, codes].sum(1) for name, table in self.tables.items()}

    def provenance(self):
        return {name: {"kind": name} for name in self.metrics}


def joined():
    here = Fake(size_bytes=[[1, 2]], latency_ms=[[3, 4]])
    board = Fake(size_bytes=[[1, 2]], latency_ms=[[30, 10]])
    return JoinedCosts({"this": here, "board": board})


def test_the_main_device_keeps_its_names_and_others_add_theirs():
    costs = joined()
    assert costs.metrics == ("size_bytes", "latency_ms", "latency_ms@board")
    found = costs.costs(np.array([[0], [1]]))
    assert found["latency_ms"].tolist() == [3, 4]
    assert found["latency_ms@board"].tolist() == [30, 10]
    assert costs.table("latency_ms@board").tolist() == [[30, 10]]
    assert set(costs.provenance()) == set(costs.metrics)


def test_objectives_of_a_device_are_costs_with_its_name():
    found = objective("latency_ms@board")
    assert (found.name, found.unit, found.is_cost) == ("latency_ms@board", "ms", True)
    assert found.title.endswith("on board")


def test_regret_is_the_share_of_hypervolume_lost_on_the_other_device():
    import pandas as pd

    table = pd.DataFrame({
        "policy_id": ["a", "b"], "status": "ok", "searchable": True, "ce": [1.0, 1.0],
        "latency_ms": [1.0, 2.0], "latency_ms@board": [2.0, 1.0],
    })  # fmt: skip
    bounds = {"ideal": (0.0, 0.0), "point": (2.0, 4.0)}
    metrics = ("latency_ms", "latency_ms@board")
    found = regret(
        table,
        {"latency_ms": ["a"], "latency_ms@board": ["b"]},
        dict.fromkeys(metrics, bounds),
        "ce",
    )
    # On the board, b covers 1/2 x 3/4 and a 1/2 x 2/4.
    assert found["latency_ms"]["latency_ms@board"] == pytest.approx(1 / 3)
    assert found["latency_ms"]["latency_ms"] == pytest.approx(0)
    assert found["latency_ms@board"]["latency_ms"] == pytest.approx(1 / 3)
    assert regret(table, {"latency_ms": ["a"]}, {"latency_ms": bounds}, "ce") == {}


CHOICES = ("int4sg128", "int8sc/int8ut", "float32")


def slow_four_bits(**changes):
    tables = {"size_bytes": [[4, 8, 32]] * 2, "latency_ms": [[2.0, 1.0, 4.0]] * 2}
    return Fake(**{**tables, **changes})


def test_a_choice_that_is_smaller_stays_however_slow():
    space = space_of([linear("a"), linear("b", 1)], CHOICES)
    assert without_losers(space, slow_four_bits()) is space


def test_slower_not_smaller_and_not_more_precise_goes():
    space = space_of([linear("a"), linear("b", 1)], ("int4sc/int8ut", "int8sc/int8ut"))
    costs = Fake(size_bytes=[[8, 8], [4, 8]], latency_ms=[[2.0, 1.0], [2.0, 1.0]])
    kept = without_losers(space, costs)
    assert [len(group.choices) for group in kept.groups] == [1, 2]
    (cut,) = kept.cuts
    assert (cut.layer, cut.choice) == ("a", "int4sc/int8ut")
    assert "slower and not smaller than w8a8" in cut.reason


def test_a_more_precise_choice_is_never_dropped_for_a_coarser_one():
    space = space_of([linear("a")], ("int4sc/int8ut", "int8sc/int8ut"))
    costs = Fake(size_bytes=[[4, 8]], latency_ms=[[1.0, 2.0]])
    assert without_losers(space, costs) is space


def test_differences_below_the_table_s_exactness_do_not_count():
    space = space_of([linear("a")], ("int4sc/int8ut", "int8sc/int8ut"))
    costs = Fake(size_bytes=[[8, 8]], latency_ms=[[1.01, 1.0]])
    assert without_losers(space, costs) is space


def test_dropped_eight_bit_choices_stay_for_baselines():
    dynamic = "int8sc/int8ut@dynamic"
    space = space_of([linear("a")], ("int8sc/int8ut", dynamic), extra=("float32",))
    costs = Fake(size_bytes=[[8, 8, 32]], latency_ms=[[2.0, 1.0, 4.0]])
    kept = without_losers(space, costs)
    assert [choice.text for choice in kept.groups[0].choices] == [parse_choice(dynamic).text]
    assert len(kept.groups[0].extra) == 2
    assert kept.groups[0].all_choices == (
        parse_choice(dynamic), parse_choice("float32"), parse_choice("int8sc/int8ut"),
    )  # fmt: skip


def test_a_space_without_losers_is_the_same_object():
    space = space_of([conv("a")], ("int8sc/int8ut", "float32"))
    costs = Fake(size_bytes=[[1, 4]], latency_ms=[[1, 4]])
    assert replace(space, cuts=()) == without_losers(space, costs)
