import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import InfeasibleError, UsageError
from spaces.constraints import (
    Constraint,
    check_feasible,
    combined,
    feasible_mask,
    parse_constraints,
    reachable,
)
from tests.support.toy import ToyCosts, toy_space

SPACE = toy_space(groups=3, choices=2)
COSTS = ToyCosts(SPACE)
TABLES = {name: COSTS.table(name) for name in COSTS.metrics}
FLOAT = {"size_bytes": 480.0, "latency_ms": 0.5}


def test_absolute_and_relative_limits_are_read():
    assert parse_constraints([{"size_bytes": 60000}, {"latency_ms": "0.5x"}]) == (
        Constraint("size_bytes", 60000.0),
        Constraint("latency_ms", 0.5, relative=True),
    )
    assert parse_constraints({"bops": "1e9"}) == (Constraint("bops", 1e9),)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"size": 1}], "(?s)unknown metric 'size'.*did you mean 'size_bytes'"),
        ([{"size_bytes": -3}], "limit of size_bytes is -3"),
        ([{"size_bytes": 0}], "limit of size_bytes is 0"),
        ([{"size_bytes": "big"}], "(?s)limit of size_bytes is 'big'.*0.25x"),
        ([{"size_bytes": True}], "limit of size_bytes is True"),
        ([{"size_bytes": float("nan")}], "limit of size_bytes is nan"),
        (["size_bytes"], "expected: metric: limit"),
        ("size_bytes", "a list of metric: limit"),
    ],
)
def test_bad_limits_are_refused(items, message):
    with pytest.raises(UsageError, match=message):
        parse_constraints(items)


def test_the_reachable_range_leaves_baseline_choices_out():
    # 8 x (4, 5, 6) weights of 2 or 3 bits; float32 would be 480 bytes.
    assert reachable(TABLES["size_bytes"], SPACE.sizes) == (30.0, 45.0)


def test_relative_limits_become_absolute():
    (item,) = check_feasible([Constraint("size_bytes", 0.075, True)], TABLES, SPACE, FLOAT)
    assert item == Constraint("size_bytes", 36.0)


def test_an_unreachable_limit_prints_the_range_and_the_binding_layers():
    with pytest.raises(InfeasibleError) as caught:
        check_feasible([Constraint("size_bytes", 29.0)], TABLES, SPACE, FLOAT)
    assert str(caught.value) == (
        "size_bytes <= 29 cannot be reached\n"
        "  at: space.constraints.size_bytes\n"
        "  expected: 30 to 45; at their cheapest, most is taken by layer2 (12), layer1 (10), "
        "layer0 (8)\n"
        "  fix: set the limit to at least 30, or offer cheaper choices"
    )


def test_the_proposed_limit_is_reachable_when_typed_back():
    tables = {"size_bytes": TABLES["size_bytes"] * 41152.111}  # 1234563.33 has seven digits
    with pytest.raises(InfeasibleError) as caught:
        check_feasible([Constraint("size_bytes", 0.001, True)], tables, SPACE, FLOAT)
    limit, share = re.search(r"at least (\S+) \((\S+)x\)", caught.value.fix).groups()
    for item in (
        Constraint("size_bytes", float(limit)),
        Constraint("size_bytes", float(share), True),
    ):
        assert check_feasible([item], tables, SPACE, FLOAT)[0].limit >= 30 * 41152.111


def test_a_limit_equal_to_the_least_sum_is_reachable():
    assert check_feasible([Constraint("size_bytes", 30 * (1 - 1e-15))], TABLES, SPACE, FLOAT)


def two_metrics(size, latency):
    return {
        "size_bytes": np.array(size, dtype=float),
        "latency_ms": np.array(latency, dtype=float),
    }


def test_limits_that_contradict_each_other_are_refused():
    opposed = two_metrics([[1, 3]] * 3, [[3, 1]] * 3)
    limits = [Constraint("size_bytes", 4.0), Constraint("latency_ms", 4.0)]
    with pytest.raises(InfeasibleError, match=r"(?s)at once.*at least 1.500 times these"):
        check_feasible(limits, opposed, SPACE, FLOAT)
    loose = [Constraint("size_bytes", 7.0), Constraint("latency_ms", 5.0)]
    assert check_feasible(loose, opposed, SPACE, FLOAT) == tuple(loose)


costs = st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=2), min_size=3, max_size=3)


@given(costs, costs, st.integers(1, 30), st.integers(1, 30))
def test_limits_some_policy_meets_are_never_refused(size, latency, most_size, most_latency):
    met = any(
        sum(row[c] for row, c in zip(size, codes, strict=True)) <= most_size
        and sum(row[c] for row, c in zip(latency, codes, strict=True)) <= most_latency
        for codes in itertools.product(range(2), repeat=3)
    )
    limits = [Constraint("size_bytes", most_size), Constraint("latency_ms", most_latency)]
    try:
        check_feasible(limits, two_metrics(size, latency), SPACE, FLOAT)
    except InfeasibleError:
        assert not met


def test_a_metric_the_device_lacks_is_refused():
    with pytest.raises(UsageError, match="unknown metric 'energy_mj'"):
        check_feasible([Constraint("energy_mj", 1.0)], TABLES, SPACE, FLOAT)


def test_the_mask_is_true_where_every_limit_holds():
    costs = {"size_bytes": np.array([1.0, 2.0, 3.0]), "latency_ms": np.array([3.0, 2.0, 1.0])}
    limits = [Constraint("size_bytes", 2.0), Constraint("latency_ms", 2.0)]
    assert feasible_mask(limits, costs).tolist() == [False, True, False]
    assert feasible_mask([], costs).all()


PEAKS = np.array([[10.0, 40.0], [20.0, 30.0], [5.0, 50.0]])


def test_a_maximum_is_reached_by_its_dearest_group():
    assert combined("peak_bytes", PEAKS.T).tolist() == [20.0, 50.0]
    assert combined("size_bytes", PEAKS.T).tolist() == [35.0, 120.0]
    assert reachable(PEAKS, SPACE.sizes, "peak_bytes") == (20.0, 50.0)


def test_a_limit_on_a_maximum_is_checked_against_the_largest_group():
    tables = {**TABLES, "peak_bytes": PEAKS}
    floats = {**FLOAT, "peak_bytes": 100.0}
    (found,) = check_feasible((Constraint("peak_bytes", 0.2, True),), tables, SPACE, floats)
    assert found == Constraint("peak_bytes", 20.0)
    with pytest.raises(InfeasibleError, match="peak_bytes <= 19 cannot be reached"):
        check_feasible((Constraint("peak_bytes", 19.0),), tables, SPACE, floats)


def test_a_maximum_takes_choices_away_from_the_sums():
    # Peaks above 20 forbid the second choices: what remains has one size.
    size = np.array([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0]])
    tables, floats = (
        {"size_bytes": size, "peak_bytes": PEAKS},
        {"size_bytes": 9.0, "peak_bytes": 9.0},
    )
    limits = (Constraint("size_bytes", 5.0), Constraint("peak_bytes", 20.0))
    with pytest.raises(InfeasibleError, match="at once"):
        check_feasible(limits, tables, SPACE, floats)
    loose = (Constraint("size_bytes", 6.0), Constraint("peak_bytes", 20.0))
    assert check_feasible(loose, tables, SPACE, floats) == loose
