"""Health checks: what a reader should know before trusting the numbers of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from reports import numbers
from reports.data import ReportData
from reports.origins import INTERPOLATED, STORAGE_ONLY, front_share
from search.fronts import plane
from search.pareto import anytime_hypervolume
from search.stats import Z95


class Level(IntEnum):
    """How much a finding matters."""

    PASS = 0
    INFO = 1
    WARN = 2
    FAIL = 3


@dataclass(frozen=True)
class Finding:
    """Outcome of one check: what was seen, and what to do about it."""

    level: Level
    title: str
    detail: str = ""


Check = Callable[[ReportData], Iterator[Finding]]
ENOUGH_SEEDS = 10
STILL_RISING = 0.01
LAST_PART = 0.8
LARGE_ERROR = 0.10
MANY_FAILED = 0.05
MANY_INTERPOLATED = 0.20


def check_health(data: ReportData) -> list[Finding]:
    """Runs every check; the most serious findings come first."""
    found = [finding for check in CHECKS for finding in check(data)]
    return sorted(found, key=lambda finding: -finding.level)


def run_state(data: ReportData) -> Iterator[Finding]:
    """Finished, and complete on disk."""
    if data.state == "failed":
        yield Finding(Level.FAIL, "The run failed", data.message)
    elif data.state in ("running", "interrupted"):
        yield Finding(Level.WARN, f"The run is {data.state}", "Numbers are not final.")
    else:
        yield Finding(Level.PASS, "The run finished")
    for note in data.notes:
        yield Finding(Level.INFO, note)
    for trial, error in data.manifest.get("trial_errors", {}).items():
        yield Finding(Level.WARN, f"Trial {trial} stopped with an error", str(error))


def failed_candidates(data: ReportData) -> Iterator[Finding]:
    """Share of candidates without qualities."""
    failed = int((data.table["status"] != "ok").sum())
    share = failed / len(data.table)
    if not failed:
        yield Finding(Level.PASS, "Every candidate was evaluated")
        return
    level = Level.FAIL if share > 0.5 else Level.WARN if share > MANY_FAILED else Level.INFO
    yield Finding(
        level,
        f"{failed} of {len(data.table)} candidates failed",
        "Reasons are grouped under Run log.",
    )


def baselines(data: ReportData) -> Iterator[Finding]:
    """The float model and uniform int8 must be there to compare with."""
    if data.front.float_id is None:
        yield Finding(Level.FAIL, "The float model was not evaluated")
    if data.front.int8_id is None:
        yield Finding(
            Level.WARN, "Uniform int8 was not evaluated", "Differences to it are missing."
        )
    if data.front.float_id and data.front.int8_id:
        yield Finding(Level.PASS, "Float and uniform int8 were evaluated")


def resolution(data: ReportData) -> Iterator[Finding]:
    """Neighbours on the front closer than their noise are ties."""
    if data.quality != "ce":
        return
    for cost in data.costs[:1]:
        front = data.front_table(cost)
        if len(front) < 2:
            return
        gaps = -np.diff(front["ce"].to_numpy(dtype=np.float64))
        error = front["standard_error"].to_numpy(dtype=np.float64)
        noise = Z95 * np.hypot(error[1:], error[:-1])
        tied = float((gaps < noise).mean())
        if tied > 0.5:
            yield Finding(
                Level.INFO,
                f"{100 * tied:.0f} % of neighbours on the front are ties within noise",
                "Read the front as a band: more search-validation samples separate them.",
            )
        else:
            yield Finding(Level.PASS, "Most neighbours on the front differ beyond noise")


def saturated_accuracy(data: ReportData) -> Iterator[Finding]:
    """Accuracy that cannot tell policies apart."""
    base = data.front.policies.get(data.front.float_id or "")
    front = data.front_table(data.costs[0])
    if base is None or len(front) < 3:
        return
    low, high = numbers.accuracy_interval(base)
    share = float(front["accuracy"].between(low, high).mean())
    if share > 0.5:
        yield Finding(
            Level.INFO,
            f"{100 * share:.0f} % of the front has the float model's accuracy within its interval",
            "Accuracy is saturated there: rank by cross-entropy or KL.",
        )


def test_split(data: ReportData) -> Iterator[Finding]:
    """Front points must be read on the untouched test split."""
    ids = {policy_id for ids in data.front.fronts.values() for policy_id in ids}
    unread = [i for i in ids if "test" not in data.front.policies.get(i, {})]
    if not ids:
        return
    if unread:
        yield Finding(
            Level.WARN,
            f"{len(unread)} of {len(ids)} front points were not read on the test split",
            "Values on search-validation are biased in favour of what was selected on it.",
        )
    else:
        yield Finding(Level.PASS, "Every front point was read on the test split")


def still_rising(data: ReportData) -> Iterator[Finding]:
    """A hypervolume that grows until the end asks for a larger budget."""
    cost = data.costs[0]
    if cost not in data.front.reference:
        return
    reference = data.front.reference[cost]
    rising = []
    for strategy, seed, rows in data.trials():
        points = plane(rows, data.quality, cost)
        share = anytime_hypervolume(points, np.array(reference.ideal), np.array(reference.point))
        before = share[int(LAST_PART * (len(share) - 1))]
        if len(share) >= 5 and share[-1] - before > STILL_RISING:
            rising.append(f"{strategy}-{seed}")
    if rising:
        yield Finding(
            Level.INFO,
            f"{len(rising)} trials still improved by more than 1 % in their last fifth",
            f"{', '.join(rising[:6])}{' …' if len(rising) > 6 else ''}: a larger "
            "budget.evaluations may help.",
        )
    else:
        yield Finding(Level.PASS, "Hypervolume levelled off before the budget ended")


def reference_point(data: ReportData) -> Iterator[Finding]:
    """A reference point nothing dominates makes every hypervolume zero."""
    for cost, reference in data.front.reference.items():
        points = plane(data.ok, data.quality, cost)
        if not (points < np.array(reference.point)).all(axis=1).any():
            yield Finding(
                Level.WARN,
                f"No candidate dominates the reference point of {cost}",
                "Every hypervolume there is zero and says nothing.",
            )


def seeds(data: ReportData) -> Iterator[Finding]:
    """Claims about strategies need repeats."""
    count = len(data.manifest.get("seeds", ())) or 1
    if count >= ENOUGH_SEEDS:
        yield Finding(Level.PASS, f"{count} seeds per strategy")
    else:
        yield Finding(
            Level.INFO,
            f"{count} seed{'s' if count > 1 else ''} per strategy",
            f"Comparisons of strategies are indicative below {ENOUGH_SEEDS}.",
        )


def latency_table(data: ReportData) -> Iterator[Finding]:
    """Where predicted latency comes from and how far it is from measurements."""
    for cost, info in data.front.costs.items():
        if not cost.startswith("latency_ms"):
            continue
        yield from _table_origin(cost, info.kind, int(info.data.get("preempted", 0)))
        yield from _latency_error(data)
        guessed = front_share(data, cost, INTERPOLATED)
        if guessed > MANY_INTERPOLATED:
            yield Finding(
                Level.WARN,
                f"{100 * guessed:.0f} % of layer choices on the latency front are interpolated",
                "Measure them: bitfront-measure build.",
            )
        hollow = front_share(data, cost, STORAGE_ONLY)
        if hollow > 0:
            yield Finding(
                Level.INFO,
                f"{100 * hollow:.0f} % of layer choices on the latency front have no kernel",
                "They are stored at their width but run, and are charged, as the wider type.",
            )


def _table_origin(cost: str, kind: str, preempted: int) -> Iterator[Finding]:
    if kind == "measured":
        yield Finding(Level.PASS, "Every latency entry was measured on the device")
    else:
        yield Finding(Level.WARN, f"The latency table is {kind}, not measured", cost)
    if preempted:
        yield Finding(
            Level.WARN,
            f"{preempted} latency entries were measured while the machine was busy",
            "Measure them again on an idle machine: bitfront-measure build.",
        )


def _latency_error(data: ReportData) -> Iterator[Finding]:
    error = data.latency_error()
    if error is None:
        yield Finding(
            Level.INFO,
            "Predicted latency was not checked end to end",
            "bitfront-measure validate compares it with whole models.",
        )
    elif error > LARGE_ERROR:
        yield Finding(
            Level.WARN,
            f"Predicted latency is off by {100 * error:.0f} % on average",
            "MAPE > 10 %",
        )
    else:
        yield Finding(Level.PASS, f"Predicted latency is within {100 * error:.1f} % on average")


def identities(data: ReportData) -> Iterator[Finding]:
    """One task, one data set, one table: numbers of different ones cannot be compared."""
    keys = data.table.groupby("policy_id")["quality_key"].nunique()
    mixed = int((keys > 1).sum())
    if mixed:
        yield Finding(
            Level.FAIL,
            f"{mixed} policies were evaluated under different hashes",
            "Weights, data or method changed within the run: its values cannot be compared.",
        )
    stored = (data.profile or {}).get("hash")
    named = data.manifest.get("profile_hash")
    if stored and named and stored != named:
        yield Finding(
            Level.FAIL,
            "The latency table is not the one of this run",
            f"manifest.json names {named}, profile.json is {stored}.",
        )
    if not mixed:
        yield Finding(Level.PASS, "One task, one method and one table throughout")


CHECKS: tuple[Check, ...] = (
    run_state,
    failed_candidates,
    baselines,
    test_split,
    resolution,
    saturated_accuracy,
    still_rising,
    reference_point,
    seeds,
    latency_table,
    identities,
)
