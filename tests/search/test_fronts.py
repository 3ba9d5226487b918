import math

import numpy as np
import pandas as pd
import pytest

from search import fronts
from search.records import Counters, JournalLine
from search.table import candidate_table, in_space, mean_bits
from tests.support.toy import ToyCosts, ToyJudge, toy_space


@pytest.fixture
def space():
    return toy_space(groups=4, choices=3)


def lines_for(space, codes, strategy="random", tag=""):
    judge = ToyJudge(space)
    results = judge.evaluate([space.policy(c) for c in codes])
    return [
        JournalLine(r, tuple(int(x) for x in c), strategy, 0, "a", i, 0.0, Counters(i + 1), tag)
        for i, (r, c) in enumerate(zip(results, codes, strict=True))
    ]


@pytest.fixture
def table(space):
    codes = space.sample(np.random.default_rng(0), 40)
    lines = lines_for(space, codes)
    lines += lines_for(space, [[3, 3, 3, 3]], "baseline", "fp32")
    return candidate_table(lines, space, ToyCosts(space))


def test_mean_bits_weigh_by_parameters_and_macs(space):
    weight, activation = mean_bits(space, np.array([[0, 0, 0, 0], [2, 0, 0, 0], [3, 3, 3, 3]]))
    # Weights per layer are 8 x (4, 5, 6, 7); the first layer goes from 2 to 4 bits.
    assert weight.tolist() == [2.0, pytest.approx(2 + 2 * 4 / 22), 32.0]
    assert activation.tolist() == [8.0, 8.0, 32.0]


def test_float_is_outside_the_space(space):
    assert in_space(space, np.array([[0, 1, 2, 0], [0, 1, 2, 3]])).tolist() == [True, False]


def test_the_front_is_nondominated_sorted_and_without_float(table):
    rows = fronts.front_rows(table, "ce", "size_bytes")
    chosen = table.iloc[rows]
    assert (chosen["size_bytes"].diff().dropna() > 0).all()
    assert (chosen["ce"].diff().dropna() < 0).all()
    assert "fp32" not in set(chosen["tag"])
    inside = table[table["searchable"]]
    for _, point in chosen.iterrows():
        better = (inside["size_bytes"] <= point["size_bytes"]) & (inside["ce"] < point["ce"])
        assert not better.any()


def test_accuracy_is_maximised(table):
    rows = fronts.front_rows(table, "accuracy", "size_bytes")
    assert (table.iloc[rows]["accuracy"].diff().dropna() > 0).all()


def test_failed_candidates_are_never_on_a_front(table):
    table = table.copy()
    best = fronts.front_rows(table, "ce", "size_bytes")[0]
    table.loc[table.index[best], "status"] = "failed"
    assert best not in fronts.front_rows(table, "ce", "size_bytes")


def test_the_reference_point_is_fixed_by_the_space(space):
    costs = ToyCosts(space)
    reference = fronts.reference_for(space, costs, "size_bytes", "ce", 0.2, 10)
    # 176 weights between 2 and 4 bits.
    assert fronts.cost_range(space, costs, "size_bytes") == (44.0, 88.0)
    assert reference.ideal == (0.2, 44.0)
    assert reference.point[0] == pytest.approx(math.log(10) + 0.05 * (math.log(10) - 0.2))
    assert reference.point[1] == pytest.approx(88 + 0.05 * 44)


def test_hypervolume_of_everything_is_at_least_that_of_each_trial(space, table):
    reference = fronts.reference_for(space, ToyCosts(space), "size_bytes", "ce", 0.0, 10)
    shares = fronts.hypervolumes(table, "ce", "size_bytes", reference)
    assert set(shares["by_trial"]) == {"random-0"}
    assert 0 < shares["by_trial"]["random-0"] <= shares["all"] <= 1


def test_picks_follow_their_rules():
    table = pd.DataFrame(
        {
            "ce": [1.0, 0.4, 0.35, 0.3],
            "size_bytes": [10.0, 12.0, 40.0, 100.0],
            "accuracy": [0.6, 0.90, 0.94, 0.95],
        }
    )
    options = {"float_accuracy": 0.95, "tolerance": 0.011}
    chosen = fronts.picks(table, [0, 1, 2, 3], "ce", "size_bytes", **options)
    assert {pick.role: pick.row for pick in chosen} == {"accurate": 3, "knee": 1, "smallest": 2}


def test_a_policy_worse_than_guessing_is_no_knee():
    table = pd.DataFrame(
        {
            "ce": [9.0, 3.0, 0.6, 0.4, 0.3],
            "size_bytes": [10.0, 11.0, 20.0, 60.0, 100.0],
            "accuracy": [0.1, 0.1, 0.85, 0.9, 0.95],
        }
    )
    options = {"float_accuracy": 0.95, "tolerance": 0.0, "worst": 2.3}
    chosen = fronts.picks(table, [0, 1, 2, 3, 4], "ce", "size_bytes", **options)
    assert {pick.role: pick.row for pick in chosen}["knee"] == 3


def test_no_point_within_tolerance_means_no_smallest_pick():
    table = pd.DataFrame({"ce": [1.0], "size_bytes": [10.0], "accuracy": [0.6]})
    chosen = fronts.picks(table, [0], "ce", "size_bytes", float_accuracy=0.95, tolerance=0.01)
    assert [pick.role for pick in chosen] == ["accurate", "knee"]


def test_an_empty_front_has_no_picks():
    table = pd.DataFrame({"ce": [], "size_bytes": [], "accuracy": []})
    assert fronts.picks(table, [], "ce", "size_bytes", float_accuracy=1, tolerance=0) == []
