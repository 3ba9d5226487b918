"""The end of a study: journals merged, fronts built, the test split read once, records written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from quant.sensitivity.base import ScoreTable
from quant.sensitivity.superposition import Superposition
from search import files, fronts
from search.coded_size import coded_bytes
from search.evaluate import Evaluator
from search.ladder import climb
from search.plan import Plan
from search.progress import Bar
from search.records import JournalLine, Result, decode_codes, read_journals
from search.stats import wilson
from search.table import candidate_table
from spaces.constraints import feasible_mask


def finish(
    plan: Plan,
    evaluator: Evaluator,
    run_dir: Path,
    scores: Mapping[str, ScoreTable] | None = None,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Merges journals, computes fronts, reads the test split once, writes the records."""
    lines = read_journals(run_dir / "trials")
    table = candidate_table(lines, plan.space, plan.costs)
    front = build_front(plan, table, lines)
    add_front_probabilities(front, scores or {})
    _read_test_split(plan, evaluator, front)
    if plan.settings.objective.coded_size:
        _add_coded_sizes(plan, evaluator, front)
    climbed = climb(plan, evaluator, table)
    if climbed.agreements:
        # Rung 0 stays as the table and the report have it; the last rung's front stands beside.
        top = build_front(plan, climbed.table, lines)
        _read_test_split(plan, climbed.evaluator, top)
        front["ladder"] = climbed.to_json(top)
    files.write_table(run_dir / "trials.parquet", table)
    files.write_policies(run_dir, plan.space, front["policies"])
    files.write_json(run_dir / "front.json", front)
    return front, table


def _add_coded_sizes(plan: Plan, evaluator: Evaluator, front: dict[str, Any]) -> None:
    """Adds ``coded_bytes`` to every kept policy."""
    for item in front["policies"].values():
        policy = plan.space.policy(decode_codes(item["codes"]))
        item["coded_bytes"] = coded_bytes(plan.space, evaluator.quantized, policy)


def build_front(plan: Plan, table: pd.DataFrame, lines: list[JournalLine]) -> dict[str, Any]:
    """Content of ``front.json`` before the test split is read."""
    objective = plan.settings.objective
    tags = fronts.by_tag(table)
    float_row = table.iloc[tags["fp32"]]
    ids = table["policy_id"].tolist()
    result: dict[str, Any] = {
        "state": "final",
        "quality": objective.quality,
        "metric": plan.task.metric,
        "costs": {metric: _provenance(plan, metric) for metric in plan.cost_metrics},
        "reference": {},
        "fronts": {},
        "hypervolume": {},
        "picks": [],
        "baselines": [ids[row] for row in tags.values()],
        "float": ids[tags["fp32"]],
        "uniform_int8": ids[tags["w8a8"]] if "w8a8" in tags else None,
    }
    shown = set(tags.values())
    sign = -1.0 if objective.quality == "accuracy" else 1.0
    for metric in plan.cost_metrics:
        reference = fronts.reference_for(
            plan.space,
            plan.costs,
            metric,
            objective.quality,
            sign * float(float_row[objective.quality]),
            plan.task.classes,
        )
        rows = fronts.front_rows(table, objective.quality, metric)
        rows = [row for row in rows if _feasible(plan, lines[row])]
        fronts.add_front(result, table, rows, metric, reference, objective.tolerance)
        shown |= set(rows)
    result["regret"] = regret(table, result["fronts"], result["reference"], objective.quality)
    result["policies"] = {ids[row]: _entry(table.iloc[row]) for row in sorted(shown)}
    return result


def add_front_probabilities(front: dict[str, Any], scores: Mapping[str, ScoreTable]) -> None:
    """Adds ``front_probability`` to front policies where a score predicts whole policies.

    The calibration samples are drawn again and again; the share of draws in which a policy stays
    nondominated among its front says how sure its place is. No forward pass is needed.
    """
    surrogates = (table.surrogate for table in scores.values())
    surrogate = next((item for item in surrogates if isinstance(item, Superposition)), None)
    quality = front["quality"] if surrogate and surrogate.labels is not None else "kl"
    if surrogate is None or quality == "accuracy":
        return
    for metric, members in front["fronts"].items():
        items = [front["policies"][policy_id] for policy_id in members]
        if not items:
            continue
        probability = surrogate.front_probability(
            np.array([decode_codes(item["codes"]) for item in items]),
            np.array([item[metric] for item in items], dtype=np.float64),
            np.random.default_rng(0),
            quality,
        )
        for item, share in zip(items, probability, strict=True):
            item.setdefault("front_probability", {})[metric] = float(share)


def regret(
    table: pd.DataFrame,
    found: Mapping[str, list[str]],
    references: Mapping[str, Mapping[str, Any]],
    quality: str,
) -> dict[str, dict[str, float]]:
    """What it costs to use one device's front on another.

    Returns:
        ``{"latency_ms": {"latency_ms@b": share}}``: the share of the hypervolume of ``b``'s own
        front that is lost when the policies of the first device's front are used on ``b``; empty
        for one device.
    """
    rows = {name: row for row, name in enumerate(table["policy_id"])}
    result: dict[str, dict[str, float]] = {}
    for metric in found:
        peers = [other for other in found if other.partition("@")[0] == metric.partition("@")[0]]
        for other in peers if len(peers) > 1 else []:
            bounds = fronts.Reference(
                tuple(references[other]["ideal"]), tuple(references[other]["point"]), ""
            )
            own, borrowed = (
                fronts.covered(
                    table.iloc[[rows[i] for i in found[source]]], quality, other, bounds
                )
                for source in (other, metric)
            )
            result.setdefault(metric, {})[other] = 1 - borrowed / own if own else 0.0
    return result


def _provenance(plan: Plan, metric: str) -> dict[str, Any]:
    """The cost model's provenance with a line for people."""
    source = dict(plan.costs.provenance()[metric])
    kind = str(source.pop("kind"))
    if "detail" not in source:
        source["detail"] = (
            f"sum of a kernel table, {source['device']}, {source['runtime']}, "
            f"{source['threads']} thread, batch {source['batch']}, {source['date'][:10]}"
        )
    return {"provenance": kind, **source}


def _feasible(plan: Plan, line: JournalLine) -> bool:
    costs = plan.costs.costs(np.array([line.codes]))
    return bool(feasible_mask(plan.constraints, costs)[0])


ENTRY = (
    "tag",
    "codes",
    "ce",
    "kl",
    "accuracy",
    "standard_error",
    "n",
    "size_bytes",
    "bops",
    "latency_ms",
    "energy_mj",
    "peak_bytes",
    "mean_weight_bits",
    "mean_activation_bits",
    "strategy",
    "seed",
)


def _entry(row: pd.Series) -> dict[str, Any]:
    columns = [key for key in row.index if key in ENTRY or "@" in str(key)]
    item = {key: _plain(row[key]) for key in columns}
    item["label"] = f"w{row['mean_weight_bits']:.1f}a{row['mean_activation_bits']:.1f}"
    return item


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _read_test_split(plan: Plan, evaluator: Evaluator, front: dict[str, Any]) -> None:
    """Adds ``test`` to every kept policy; losses are compared with uniform int8 in pairs."""
    bar = Bar("test split")
    int8 = front["uniform_int8"]
    # Uniform int8 first: the others are compared with it sample by sample.
    order = sorted(front["policies"], key=lambda policy_id: policy_id != int8)
    base: Tensor | None = None
    for number, policy_id in enumerate(order, start=1):
        item = front["policies"][policy_id]
        policy = plan.space.policy(decode_codes(item["codes"]))
        result, losses = evaluator.evaluate_each(policy, "test")
        if losses is not None:
            base = losses if policy_id == int8 else base
            item["test"] = _test_entry(result) | _paired(losses, base)
        bar(number, len(order), "policies")


def _paired(losses: Tensor, base: Tensor | None) -> dict[str, float]:
    """Mean difference of per-sample losses to uniform int8 and its standard error."""
    if base is None:
        return {}
    difference = losses - base
    error = float(difference.std(unbiased=True)) / len(difference) ** 0.5
    return {
        "ce_minus_int8": float(difference.mean()),
        "ce_minus_int8_standard_error": error if len(difference) > 1 else 0.0,
    }


def _test_entry(result: Result) -> dict[str, Any]:
    low, high = wilson(result.accuracy * result.n, result.n)
    return {
        "ce": result.ce,
        "kl": result.kl,
        "accuracy": result.accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "standard_error": result.standard_error,
        "n": result.n,
    }
