"""``--check``: recomputes what a run directory claims from its journals.

Fronts, picks, hypervolumes, policy ids and hashes are computed again; every difference is named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from hw_profiles.profile import load_profile
from quant.errors import BitfrontError
from reports.data import ReportData, load_run, tolerance_of
from reports.fronts import Front, rebuild_front
from reports.reading import read_json
from search.fronts import Reference, hypervolumes
from search.records import read_journals, to_frame
from spaces.constraints import combined
from spaces.policy import Policy

CLOSE = 1e-9
COMPARED = ("quality_key", "policy_id", "codes", "status", "strategy", "seed", "tag", "n")


@dataclass(frozen=True)
class Check:
    """One thing that was recomputed; ``problems`` is empty when it agrees."""

    name: str
    problems: tuple[str, ...]


def check_run(path: Path) -> list[Check]:
    """Recomputes everything that can be recomputed without the model.

    Raises:
        DataError: the run cannot be read at all.
    """
    data = load_run(path)
    steps = {
        "candidates equal the journals": journal_problems(data, path),
        "policy ids are the hashes of their policies": id_problems(data),
        "costs equal the tables": cost_problems(data),
        "fronts and picks": front_problems(data, path),
        "hypervolumes": hypervolume_problems(data),
        "policy files": policy_problems(data, path),
        "hashes of configuration and latency table": hash_problems(data, path),
        "report.html shows these files": page_problems(path),
    }
    return [Check(name, tuple(problems)) for name, problems in steps.items()]


def journal_problems(data: ReportData, path: Path) -> Iterator[str]:
    """The merged table against the append-only source of truth."""
    fresh = to_frame(read_journals(path / "trials"))
    if len(fresh) != len(data.table):
        yield f"trials.parquet has {len(data.table)} rows, the journals have {len(fresh)}"
        return
    order = ["strategy", "seed", "seq", "incarnation"]
    fresh, table = (frame.sort_values(order, kind="stable") for frame in (fresh, data.table))
    for column in COMPARED:
        differ = fresh[column].to_numpy() != table[column].to_numpy()
        if differ.any():
            yield f"column '{column}' differs in {int(differ.sum())} rows"
    for column in ("ce", "kl", "accuracy", "standard_error"):
        same = np.isclose(fresh[column], table[column], rtol=CLOSE, atol=0, equal_nan=True)
        if not same.all():
            yield f"column '{column}' differs in {int((~same).sum())} rows"


def id_problems(data: ReportData) -> Iterator[str]:
    """Codes, layers.json and policy ids belong together."""
    rows = data.table.drop_duplicates("policy_id")
    for policy_id, text in zip(rows["policy_id"], rows["codes"], strict=True):
        actual = data.space.policy(data.codes(text)).policy_id
        if actual != policy_id:
            yield f"codes {text} are policy {actual}, the record says {policy_id}"


def cost_problems(data: ReportData) -> Iterator[str]:
    """Additive costs of the table against the columns; latency also holds conversions."""
    codes = np.array([data.codes(text) for text in data.table["codes"]])
    groups = np.arange(codes.shape[1])
    for metric in ("size_bytes", "bops", "peak_bytes", "energy_mj"):
        if metric not in data.table or metric not in data.tables:
            continue
        summed = combined(metric, data.tables[metric][groups, codes])
        same = np.isclose(summed, data.table[metric], rtol=1e-9)
        if not same.all():
            yield f"{metric} differs in {int((~same).sum())} rows"
    if "latency_ms" in data.tables and "latency_ms" in data.table:
        summed = data.tables["latency_ms"][groups, codes].sum(axis=1)
        below = data.table["latency_ms"].to_numpy() < summed * (1 - 1e-9)
        if below.any():
            yield f"latency_ms is below the sum of its layers in {int(below.sum())} rows"


def front_problems(data: ReportData, path: Path) -> Iterator[str]:
    """Fronts and picked points computed again from the candidate table."""
    if not (path / "front.json").exists():
        yield "front.json is missing"
        return
    fresh = rebuilt(data)
    for metric, ids in data.front.fronts.items():
        if fresh.fronts.get(metric) != ids:
            odd = sorted(set(fresh.fronts.get(metric, ())) ^ set(ids))
            yield f"the front of {metric} differs in {', '.join(odd[:4]) or 'its order'}"
    if set(fresh.picks) != set(data.front.picks):
        odd_picks = sorted(
            f"{p.role} of {p.cost}" for p in set(fresh.picks) ^ set(data.front.picks)
        )
        yield f"picks differ: {', '.join(dict.fromkeys(odd_picks))}"
    values = data.unique.set_index("policy_id")
    for policy_id, entry in data.front.policies.items():
        for name in (data.quality, "accuracy", *data.costs):
            if not np.isclose(float(str(values.loc[policy_id, name])), entry[name], rtol=CLOSE):
                yield f"front.json says {name} {entry[name]} of {policy_id}, the table differs"


def rebuilt(data: ReportData) -> Front:
    """The front of a run from its table, budgets of the manifest applied."""
    return rebuild_front(
        data.table,
        data.quality,
        data.front.costs,
        tolerance_of(data.config),
        data.manifest.get("constraints", ()),
        data.front.reference,
    )


def hypervolume_problems(data: ReportData) -> Iterator[str]:
    """Hypervolumes under the stored reference points."""
    for metric, stored in data.front.hypervolume.items():
        bounds = data.front.reference[metric]
        reference = Reference(bounds.ideal, bounds.point, bounds.why)
        fresh = hypervolumes(data.table, data.quality, metric, reference)
        yield from _different_shares(metric, "all", stored["all"], fresh["all"])
        trials = fresh["by_trial"]
        assert isinstance(trials, dict)
        for trial, value in stored.get("by_trial", {}).items():
            yield from _different_shares(metric, trial, value, trials.get(trial))


def _different_shares(metric: str, name: str, stored: object, fresh: object) -> Iterator[str]:
    if fresh is None or not np.isclose(float(str(stored)), float(str(fresh)), rtol=1e-6):
        yield f"hypervolume of {name} in {metric} is {fresh}, front.json says {stored}"


def policy_problems(data: ReportData, path: Path) -> Iterator[str]:
    """Every named policy has a file whose content hashes to its name."""
    for policy_id in data.front.policies:
        stored = read_json(path / "policies" / f"{policy_id}.json")
        if stored is None:
            yield f"policies/{policy_id}.json is missing"
        elif Policy(stored["choices"]).policy_id != policy_id:
            yield f"policies/{policy_id}.json holds another policy"


def hash_problems(data: ReportData, path: Path) -> Iterator[str]:
    """config.yaml and profile.json against the manifest."""
    try:
        text = json.dumps(
            yaml.safe_load(data.config), sort_keys=True, separators=(",", ":"), default=str
        )
    except yaml.YAMLError as cause:
        yield f"config.yaml cannot be read: {cause}"
        return
    fresh = hashlib.sha256(text.encode()).hexdigest()[:16]
    stated = data.manifest.get("config_hash")
    if fresh != stated:
        yield f"config.yaml hashes to {fresh}, the manifest says {stated}"
    if (path / "profile.json").exists():
        try:
            profile = load_profile(path / "profile.json")
        except BitfrontError as error:
            yield error.what
            return
        if profile.hash != data.manifest.get("profile_hash"):
            yield f"profile.json is {profile.hash}, not {data.manifest.get('profile_hash')}"


def page_problems(path: Path) -> Iterator[str]:
    """An existing page must be what these files render to."""
    from reports.page import page_html

    page = path / "report.html"
    if page.exists() and page.read_text(encoding="utf-8") != page_html(load_run(path)):
        yield f"report.html differs: render it again with bitfront-report {path.name}"


def failures(checks: list[Check]) -> list[str]:
    """Problems of all checks, one line each."""
    return [f"{check.name}: {problem}" for check in checks for problem in check.problems]
