"""The answer first: picked points, their difference to uniform int8, and one honest sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reports import numbers
from reports.data import ReportData, tolerance_of
from reports.fronts import Pick, cost_objective, positions
from search.stats import Z95

ROUNDING = 1e-9


@dataclass(frozen=True)
class Difference:
    """A quality minus that of uniform int8, with a 95 % interval.

    Attributes:
        value: difference of values.
        low, high: interval.
        better: True when larger values are better.
    """

    value: float
    low: float
    high: float
    better: bool

    @property
    def within_noise(self) -> bool:
        """True when the interval holds zero."""
        return self.low <= 0 <= self.high

    @property
    def worse(self) -> bool:
        """True when the policy is worse beyond its noise."""
        return self.high < 0 if self.better else self.low > 0

    @property
    def improved(self) -> bool:
        """True when the policy is better beyond its noise."""
        return self.low > 0 if self.better else self.high < 0


@dataclass(frozen=True)
class Answer:
    """One picked point.

    Attributes:
        role: ``accurate``, ``knee`` or ``smallest``.
        title: the rule in words.
        cost: metric it was picked on.
        policy_id: which policy.
        label: its short name.
        codes: choice of each group.
        entry: search-validation values and costs.
        test: values on the test split, or None; cards show these when present.
        loss: difference of the quality to uniform int8, or None.
        accuracy: difference of accuracy to uniform int8, or None.
        relative_cost: cost over that of uniform int8, or None.
    """

    role: str
    title: str
    cost: str
    policy_id: str
    label: str
    codes: str
    entry: Mapping[str, Any]
    test: Mapping[str, Any] | None
    loss: Difference | None
    accuracy: Difference | None
    relative_cost: float | None

    @property
    def shown(self) -> Mapping[str, Any]:
        """The values a card prints: test split, else search-validation."""
        return self.test or self.entry


@dataclass(frozen=True)
class Verdict:
    """What the run says about one cost, in one sentence.

    Attributes:
        cost: metric.
        beats: True when a front point beats uniform int8 beyond noise.
        headline: short sentence.
        detail: what it rests on.
    """

    cost: str
    beats: bool
    headline: str
    detail: str


def answers(data: ReportData, cost: str) -> list[Answer]:
    """Picked points on the front of ``cost``, in the order accurate, knee, smallest."""
    picks = [pick for pick in data.front.picks if pick.cost == cost]
    return [answer(data, pick) for pick in picks if pick.policy_id in data.front.policies]


def answer(data: ReportData, pick: Pick) -> Answer:
    """Everything a card prints about one picked point."""
    entry = data.front.policies[pick.policy_id]
    base = data.front.policies.get(data.front.int8_id or "")
    own, other = _same_split(entry, base)
    return Answer(
        role=pick.role,
        title=role_title(pick.role, pick.cost, tolerance_of(data.config)),
        cost=pick.cost,
        policy_id=pick.policy_id,
        label=str(entry.get("label", "")),
        codes=str(entry["codes"]),
        entry=entry,
        test=entry.get("test"),
        loss=loss_difference(own, other, data.quality) if other else None,
        accuracy=accuracy_difference(own, other) if other else None,
        relative_cost=_ratio(entry.get(pick.cost), base.get(pick.cost)) if base else None,
    )


def role_title(role: str, cost: str, tolerance: float) -> str:
    """A rule in words, for example ``fastest within 1.0 pt of float``."""
    word = {"latency_ms": "Fastest", "size_bytes": "Smallest"}.get(
        cost.partition("@")[0], "Cheapest"
    )
    return {
        "accurate": "Most accurate",
        "knee": "Knee of the front",
        "smallest": f"{word} within {100 * tolerance:g} pt of float",
    }.get(role, role)


def loss_difference(
    own: Mapping[str, Any], base: Mapping[str, Any], quality: str
) -> Difference | None:
    """Difference of the quality with a 95 % interval.

    A stored paired difference (``ce_minus_int8``) is used where the run has one. Without it the
    errors are added as if independent: claims of a difference are on the safe side, "within
    noise" is lenient. KL has no recorded error: None.
    """
    if quality == "accuracy":
        return accuracy_difference(own, base)
    if quality != "ce":
        return None
    if "ce_minus_int8" in own:
        value = float(own["ce_minus_int8"])
        half = Z95 * float(own["ce_minus_int8_standard_error"])
        return Difference(value, value - half, value + half, better=False)
    value = float(own["ce"]) - float(base["ce"])
    half = Z95 * math.hypot(float(own["standard_error"]), float(base["standard_error"]))
    return Difference(value, value - half, value + half, better=False)


def accuracy_difference(own: Mapping[str, Any], base: Mapping[str, Any]) -> Difference:
    """Difference of two shares with the interval of Newcombe (1998), method 10."""
    first, second = float(own["accuracy"]), float(base["accuracy"])
    low1, high1 = numbers.accuracy_interval(own)
    low2, high2 = numbers.accuracy_interval(base)
    value = first - second
    low = value - math.hypot(first - low1, high2 - second)
    high = value + math.hypot(high1 - first, second - low2)
    return Difference(value, low, high, better=True)


def verdict(data: ReportData, cost: str) -> Verdict:
    """Whether anything on the front of ``cost`` beats uniform int8, said plainly."""
    title = cost_objective(cost).title
    base = data.front.policies.get(data.front.int8_id or "")
    if not data.front.fronts.get(cost):
        return Verdict(cost, False, "No front yet", "No candidate of the space has succeeded.")
    if base is None or base.get(cost) is None:
        return Verdict(
            cost, False, "No comparison with uniform int8", "The uniform int8 policy was not run."
        )
    best = cheapest_as_good(data, cost, base)
    if best is not None:
        return _cheaper(data, cost, best, base)
    better = _better_at_no_more(data, cost, base)
    if better is not None:
        detail = f"{better} is better beyond the 95 % interval at no more {title}."
        return Verdict(cost, True, f"Better than uniform int8 at no more {title}", detail)
    detail = f"{_why_none(data, cost, base)}{_margin_text(data, cost)}."
    return Verdict(cost, False, f"Nothing beats uniform int8 on {title}", detail)


def _why_none(data: ReportData, cost: str, base: Mapping[str, Any]) -> str:
    title, at = cost_objective(cost).title, numbers.cost(cost, base[cost])
    limit = float(base[cost]) * (1.0 - cost_margin(data, cost))
    entries = [data.front.policies.get(i, {}) for i in data.front.fronts[cost]]
    if not any(float(entry.get(cost, math.inf)) < limit for entry in entries):
        beyond = " by more than the table's error" if cost_margin(data, cost) else ""
        return f"No front point has less {title} than uniform int8 ({at}){beyond}"
    return (
        f"Every front point with less {title} than uniform int8 ({at}) loses quality, beyond "
        "noise or beyond the configured tolerance"
    )


def cheapest_as_good(data: ReportData, cost: str, base: Mapping[str, Any]) -> str | None:
    """Cheapest front point cheaper than int8 (beyond the table's error) and as good.

    As good means: not worse beyond noise, and the accuracy itself within the configured
    tolerance, so that a small test split does not make everything look alike.

    Picking the best of many on the test split would flatter it. So the points that are as good
    on search-validation are tested on the test split in an order fixed beforehand, from the
    dearest to the cheapest, and the first that fails ends the sequence: such a sequence errs no
    more often than a single test (Maurer et al. 1995; Westfall and Krishen 2001).
    """
    limit = float(base[cost]) * (1.0 - cost_margin(data, cost))
    confirmed = None
    for policy_id in reversed(data.front.fronts[cost]):
        entry = data.front.policies.get(policy_id)
        if entry is None or float(entry[cost]) >= limit or not _as_good(data, entry, base):
            continue
        if not _as_good(data, *_same_split(entry, base)):
            break
        confirmed = policy_id
    return confirmed


def cost_margin(data: ReportData, cost: str) -> float:
    """Relative difference below which two costs count as equal.

    Zero for what is computed; the checked error of the table for predicted latency, zero where
    it is unchecked (the sentence says so).
    """
    if cost != "latency_ms":
        return 0.0
    return data.latency_error() or 0.0


def _as_good(data: ReportData, own: Mapping[str, Any], base: Mapping[str, Any] | None) -> bool:
    """Whether values of one split are as good as those of uniform int8 on the same split."""
    assert base is not None
    accuracy = accuracy_difference(own, base)
    found = [loss_difference(own, base, data.quality), accuracy]
    worse = any(difference is not None and difference.worse for difference in found)
    return not worse and accuracy.value >= -tolerance_of(data.config) - ROUNDING


def _better_at_no_more(data: ReportData, cost: str, base: Mapping[str, Any]) -> str | None:
    """The best point of search-validation at no more than int8's cost, if both splits agree."""
    for policy_id in reversed(data.front.fronts[cost]):
        entry = data.front.policies.get(policy_id)
        if entry is None or float(entry[cost]) > float(base[cost]):
            continue
        own, other = _same_split(entry, base)
        assert other is not None
        splits = ((entry, base), (own, other))
        found = [loss_difference(a, b, data.quality) for a, b in splits]
        return policy_id if all(item is not None and item.improved for item in found) else None
    return None


def _cheaper(data: ReportData, cost: str, policy_id: str, base: Mapping[str, Any]) -> Verdict:
    entry = data.front.policies[policy_id]
    less = 100 * (1 - float(entry[cost]) / float(base[cost]))
    word = {"size_bytes": "smaller", "latency_ms": "faster (predicted)"}.get(
        cost, f"less {cost_objective(cost).title}"
    )
    headline = f"{less:.0f} % {word} than uniform int8, at the same quality within noise"
    own, other = _same_split(entry, base)
    assert other is not None
    detail = (
        f"{entry['label']} ({policy_id}) needs {numbers.cost(cost, entry[cost])} instead of "
        f"{numbers.cost(cost, base[cost])}{_loss_left_open(data, own, other)}"
        f"{_margin_text(data, cost)}."
    )
    return Verdict(cost, True, headline, detail)


def _loss_left_open(data: ReportData, own: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The difference in words, with the largest loss its interval leaves open."""
    accuracy = accuracy_difference(own, other)
    difference = loss_difference(own, other, data.quality)
    told = ""
    if difference is not None and data.quality == "ce":
        half = (difference.high - difference.low) / 2
        told = f"; cross-entropy differs by {numbers.interval(difference.value, half)}"
    return (
        f"{told}; accuracy by {numbers.points(accuracy.value)} "
        f"(at worst {numbers.points(min(accuracy.low, 0.0))})"
    )


def _margin_text(data: ReportData, cost: str) -> str:
    if not cost.startswith("latency_ms"):
        return ""
    if "@" in cost:  # the check was run on the main device only
        return "; the prediction was not checked end to end"
    return f"; {latency_error_text(data)}"


def latency_error_text(data: ReportData) -> str:
    """How far predictions are from the end-to-end measurement, or that nobody looked."""
    error = data.latency_error()
    if error is None:
        return "latency is predicted, its error was not checked end to end"
    checked = len(data.latency_check) if data.latency_check is not None else 0
    return f"latency is predicted, mean error {100 * error:.1f} % over {checked} measured policies"


def measured_latency(data: ReportData, policy_id: str) -> float | None:
    """End-to-end latency of one policy in milliseconds, where it was measured."""
    if data.latency_check is None:
        return None
    rows = positions(data.latency_check, [policy_id])
    return float(data.latency_check["measured_ms"].iloc[rows[0]]) if rows else None


def _same_split(
    entry: Mapping[str, Any], base: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """Both on the test split when both were read there, else both on search-validation."""
    if base is not None and "test" in entry and "test" in base:
        return entry["test"], base["test"]
    return (entry["test"], None) if base is None and "test" in entry else (entry, base)


def _ratio(value: Any, base: Any) -> float | None:
    if value is None or base is None or not float(base):
        return None
    return float(value) / float(base)
