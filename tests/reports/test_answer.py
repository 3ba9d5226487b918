import dataclasses
import math

import pytest

from reports.answer import (
    accuracy_difference,
    answers,
    cheapest_as_good,
    loss_difference,
    role_title,
    verdict,
)
from search.stats import Z95, wilson


def entry(ce=0.2, accuracy=0.95, size=100_000, error=0.01, n=600, **more):
    return {
        "ce": ce,
        "kl": 0.01,
        "accuracy": accuracy,
        "standard_error": error,
        "n": n,
        "size_bytes": size,
        "latency_ms": size / 1e5,
        "label": "w4.0a8.0",
        "codes": "0" * 14,
        **more,
    }


def with_policies(data, int8, *points):
    policies = {"int8": int8} | {f"p{i}": item for i, item in enumerate(points)}
    ids = tuple(
        sorted((f"p{i}" for i in range(len(points))), key=lambda p: policies[p]["size_bytes"])
    )
    fronts = {"size_bytes": ids, "latency_ms": ids}
    front = dataclasses.replace(data.front, policies=policies, int8_id="int8", fronts=fronts)
    return dataclasses.replace(data, front=front)


def test_answers_follow_the_picks(data):
    found = answers(data, "size_bytes")
    assert [item.role for item in found] == ["accurate", "knee", "smallest"]
    stored = {p.role: p.policy_id for p in data.front.picks if p.cost == "size_bytes"}
    assert {item.role: item.policy_id for item in found} == stored
    for item in found:
        base = data.front.policies[data.front.int8_id]
        assert item.relative_cost == pytest.approx(item.entry["size_bytes"] / base["size_bytes"])
        assert item.shown is item.entry["test"]


def test_loss_difference_adds_both_errors():
    difference = loss_difference(entry(ce=0.23, error=0.03), entry(ce=0.2, error=0.04), "ce")
    assert difference.value == pytest.approx(0.03)
    assert difference.high - difference.value == pytest.approx(Z95 * 0.05)
    assert difference.within_noise
    assert not difference.worse


def test_a_stored_paired_difference_is_preferred():
    own = entry(ce=0.23, ce_minus_int8=0.03, ce_minus_int8_standard_error=0.001)
    difference = loss_difference(own, entry(ce=0.2), "ce")
    assert difference.worse
    assert difference.low == pytest.approx(0.03 - Z95 * 0.001)


def test_accuracy_difference_is_newcombes_method_10():
    # Newcombe (1998), table II: 56/70 against 48/80 gives 0.0524 to 0.3339.
    own = {"accuracy": 56 / 70, "n": 70}
    base = {"accuracy": 48 / 80, "n": 80}
    difference = accuracy_difference(own, base)
    assert difference.value == pytest.approx(0.2)
    assert (difference.low, difference.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert difference.improved


def test_equal_accuracies_are_within_noise():
    difference = accuracy_difference(entry(), entry())
    low, high = wilson(0.95 * 600, 600)
    assert difference.value == 0
    assert difference.high == pytest.approx(math.hypot(high - 0.95, 0.95 - low))
    assert difference.within_noise


def test_verdict_names_the_cheapest_as_good_point(data):
    fake = with_policies(
        data,
        entry(),
        entry(ce=0.6, accuracy=0.8, size=40_000),
        entry(ce=0.205, accuracy=0.945, size=70_000),
        entry(ce=0.2, size=90_000),
    )
    said = verdict(fake, "size_bytes")
    assert said.beats
    assert said.headline == "30 % smaller than uniform int8, at the same quality within noise"
    assert "p1" in said.detail
    assert "at worst" in said.detail


def test_within_noise_is_not_enough_when_the_split_is_small(data):
    fake = with_policies(data, entry(n=40), entry(ce=0.2, accuracy=0.9, size=70_000, n=40))
    assert accuracy_difference(fake.front.policies["p0"], entry(n=40)).within_noise
    assert cheapest_as_good(fake, "size_bytes", fake.front.policies["int8"]) is None


def test_verdict_says_when_nothing_beats_int8(data):
    fake = with_policies(data, entry(), entry(ce=0.6, accuracy=0.8, size=40_000))
    said = verdict(fake, "size_bytes")
    assert not said.beats
    assert said.headline == "Nothing beats uniform int8 on weight size"


def test_a_predicted_gain_below_the_tables_error_is_no_gain(data):
    error = data.latency_error()
    near = entry(size=100_000 * (1 - 0.5 * error))
    far = entry(size=100_000 * (1 - 2 * error))
    assert not verdict(with_policies(data, entry(), near), "latency_ms").beats
    said = verdict(with_policies(data, entry(), far), "latency_ms")
    assert said.beats
    assert "predicted" in said.headline
    assert "measured" not in said.headline


def test_verdict_without_int8(data):
    fake = dataclasses.replace(data, front=dataclasses.replace(data.front, int8_id=None))
    assert verdict(fake, "size_bytes").headline == "No comparison with uniform int8"
    assert answers(fake, "size_bytes")[0].loss is None


def test_better_at_no_more_cost_counts(data):
    fake = with_policies(data, entry(ce=0.4, accuracy=0.9), entry(ce=0.2, size=100_000))
    said = verdict(fake, "size_bytes")
    assert said.beats
    assert said.headline.startswith("Better than uniform int8")


def test_rules_in_words():
    assert role_title("smallest", "latency_ms", 0.01) == "Fastest within 1 pt of float"
    assert role_title("smallest", "size_bytes", 0.005) == "Smallest within 0.5 pt of float"


def split(test_ce, test_accuracy, **more):
    """A point whose test values differ from those of search-validation."""
    return entry(**more, test=entry(ce=test_ce, accuracy=test_accuracy))


def test_the_claim_walks_from_dear_to_cheap_and_stops_at_the_first_failure(data):
    base = entry(test=entry())
    points = (
        split(0.2, 0.95, size=50_000),  # as good on both splits, but behind one that failed
        split(0.6, 0.80, size=60_000),  # as good on search-validation only
        split(0.2, 0.95, size=80_000),
        split(0.2, 0.95, size=90_000),
    )
    assert cheapest_as_good(with_policies(data, base, *points), "size_bytes", base) == "p2"


def test_what_search_validation_rules_out_is_not_tested(data):
    base = entry(test=entry())
    points = (
        split(0.2, 0.95, size=50_000),
        split(0.2, 0.95, size=60_000, ce=0.9, accuracy=0.7),
        split(0.2, 0.95, size=80_000),
    )
    assert cheapest_as_good(with_policies(data, base, *points), "size_bytes", base) == "p0"


def test_a_better_point_must_be_better_on_both_splits(data):
    base = entry(test=entry())
    lucky = split(0.2, 0.95, size=100_000, ce=0.05)
    real = split(0.05, 0.95, size=100_000, ce=0.05)
    assert not verdict(with_policies(data, base, lucky), "size_bytes").beats
    assert verdict(with_policies(data, base, real), "size_bytes").beats
