"""Several runs of one problem side by side: what must agree, and what is compared.

Runs are comparable when task, data, weights, splits and quality agree; a cost is compared when
its table and reference point agree as well. Everything else may differ and is listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import yaml

from quant.errors import UsageError
from reports.data import ReportData
from reports.figures.hypervolume import share_of
from reports.fronts import Reference
from search.pareto import Floats
from search.stats import bootstrap

MUST_AGREE = ("name", "data_hash", "weights_hash", "n_search", "n_test")
IGNORED = ("study", "run_dir")


@dataclass(frozen=True)
class Entrant:
    """A strategy of one run with its final hypervolumes, one per seed, ``float[seeds]``."""

    name: str
    finals: Floats

    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the median over seeds."""
        return bootstrap(self.finals, np.random.default_rng(0))


@dataclass(frozen=True)
class Comparison:
    """Runs that may be compared.

    Attributes:
        runs: in the order given, with distinct names.
        costs: metrics compared.
        left_out: metrics that are not, with the reason.
        entrants: strategies by metric.
        differing: configuration keys that differ, with the value of each run.
    """

    runs: tuple[ReportData, ...]
    costs: tuple[str, ...]
    left_out: Mapping[str, str]
    entrants: Mapping[str, tuple[Entrant, ...]]
    differing: Mapping[str, tuple[str, ...]]


def compare(runs: Sequence[ReportData]) -> Comparison:
    """Checks that runs are alike and compares them.

    Raises:
        UsageError: fewer than two runs, or runs of different problems, with the reason.
    """
    if len(runs) < 2:
        raise UsageError("nothing to compare", expected="two or more run directories")
    _require_alike(runs)
    named = tuple(_named(runs))
    left_out = _left_out(named)
    costs = tuple(
        cost
        for cost in named[0].costs
        if cost not in left_out and all(cost in run.front.reference for run in named)
    )
    if not costs:
        reasons = "; ".join(f"{cost}: {why}" for cost, why in left_out.items())
        raise UsageError("no cost can be compared", expected=reasons or "finished runs")
    entrants = {cost: tuple(e for run in named for e in _entrants(run, cost)) for cost in costs}
    return Comparison(named, costs, left_out, entrants, differing_keys(named))


def _require_alike(runs: Sequence[ReportData]) -> None:
    first = runs[0]
    for other in runs[1:]:
        for key in MUST_AGREE:
            own, theirs = (run.manifest.get("task", {}).get(key) for run in (first, other))
            if own != theirs:
                raise UsageError(
                    f"runs '{first.path}' and '{other.path}' are of different problems: "
                    f"task {key} is {own!r} and {theirs!r}",
                    fix="compare runs of the same task, data and weights",
                )
        if first.quality != other.quality:
            raise UsageError(
                f"runs '{first.path}' and '{other.path}' judge by different qualities: "
                f"{first.quality} and {other.quality}",
                fix="compare runs with the same objective.quality",
            )


def _named(runs: Sequence[ReportData]) -> list[ReportData]:
    """Runs whose study names are distinct; repeated ones take their path."""
    names = [run.name for run in runs]
    return [
        replace(run, manifest={**run.manifest, "study": run.path})
        if names.count(run.name) > 1
        else run
        for run in runs
    ]


def _left_out(runs: Sequence[ReportData]) -> dict[str, str]:
    found = {}
    for cost in dict.fromkeys(cost for run in runs for cost in run.costs):
        have = [run for run in runs if cost in run.costs]
        if len(have) < len(runs):
            found[cost] = "not every run has it"
        elif not _same_reference([run.front.reference.get(cost) for run in runs]):
            found[cost] = "reference points differ"
        elif cost.startswith("latency_ms") and _profiles(runs) > 1:
            found[cost] = "latency tables differ"
    return found


def _same_reference(references: Sequence[Reference | None]) -> bool:
    bounds = [None if r is None else [*r.ideal, *r.point] for r in references]
    if any(b is None for b in bounds):
        return False
    return bool(np.allclose(bounds[0], bounds[1:], rtol=1e-6))  # type: ignore[arg-type]


def _profiles(runs: Sequence[ReportData]) -> int:
    return len({run.manifest.get("profile_hash") for run in runs})


def _entrants(run: ReportData, cost: str) -> list[Entrant]:
    finals: dict[str, list[float]] = {}
    for strategy, _, rows in run.trials():
        usable = rows[(rows["status"] == "ok") & rows["searchable"]]
        finals.setdefault(strategy, []).append(share_of(run, cost, usable))
    return [Entrant(f"{run.name} / {name}", np.array(v)) for name, v in finals.items()]


def win_matrix(entrants: Sequence[Entrant]) -> Floats:
    """Chance that the row's run beats the column's, ``float[n, n]``; ties count half."""
    wins = np.full((len(entrants), len(entrants)), 0.5)
    for i, row in enumerate(entrants):
        for j, column in enumerate(entrants):
            if i != j:
                gap = row.finals[:, None] - column.finals[None, :]
                wins[i, j] = float((gap > 0).mean() + 0.5 * (gap == 0).mean())
    return wins


def differing_keys(runs: Sequence[ReportData]) -> dict[str, tuple[str, ...]]:
    """Configuration keys whose values differ, dotted, with the value of each run."""
    flat = [flatten(_config(run)) for run in runs]
    keys = sorted(set().union(*flat))
    values = {key: tuple(str(item.get(key, "–")) for item in flat) for key in keys}
    return {
        key: found
        for key, found in values.items()
        if len(set(found)) > 1 and key.partition(".")[0] not in IGNORED
    }


def flatten(data: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; lists stay values."""
    if not isinstance(data, Mapping):
        return {prefix: data}
    found: dict[str, Any] = {}
    for key, value in data.items():
        found |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def _config(run: ReportData) -> dict[str, Any]:
    try:
        data = yaml.safe_load(run.config)
    except yaml.YAMLError:
        return {}
    return data if isinstance(data, dict) else {}


def merged(comparison: Comparison) -> ReportData:
    """All runs as one, strategies named ``run / strategy``, for figures over trials."""
    parts = []
    for run in comparison.runs:
        table = run.table[run.table["strategy"] != "baseline"]
        parts.append(table.assign(strategy=[f"{run.name} / {s}" for s in table["strategy"]]))
    first = comparison.runs[0]
    table = pd.concat([*parts, first.table[first.table["strategy"] == "baseline"]])
    names = [f"{run.name} / {s}" for run in comparison.runs for s in run.strategies()]
    costs = {cost: first.front.costs[cost] for cost in comparison.costs}
    return replace(
        first,
        table=table.reset_index(drop=True),
        manifest={**first.manifest, "strategies": names},
        front=replace(first.front, costs=costs),
    )
