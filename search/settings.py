"""The resolved configuration of a study as frozen dataclasses.

Hydra's containers stop at the entry points; everything below works with these. Every group is
checked here before any time is spent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from quant.errors import UsageError, unknown
from quant.method import Method
from search.checked import from_mapping, require
from search.objectives import OBJECTIVES
from search.trial import Budget
from spaces.config import SpaceConfig

RESUME = ("auto", "fresh", "extend")
RUNNERS = ("ray", "local")
FEEDING_CPUS = 0.01
"""What a trial holds that leaves evaluating to others; Ray refuses 0."""


@dataclass(frozen=True)
class ObjectiveSettings:
    """What is traded against what.

    Attributes:
        quality: ``"ce"``, ``"kl"`` or ``"accuracy"``.
        costs: cost metrics, one front each.
        tolerance: accuracy (a share) the picked cheap points may lose against float.
        coded_size: whether ``front.json`` also holds sizes with Huffman-coded weights.
    """

    quality: str = "ce"
    costs: tuple[str, ...] = ("size_bytes", "latency_ms")
    tolerance: float = 0.01
    coded_size: bool = False

    def __post_init__(self) -> None:
        qualities = [name for name, item in OBJECTIVES.items() if not item.is_cost]
        costs = [name for name, item in OBJECTIVES.items() if item.is_cost]
        if self.quality not in qualities:
            raise unknown("quality", self.quality, qualities, where="objective.quality")
        require(len(self.costs) > 0, "objective.costs is empty", where="objective.costs")
        for name in self.costs:
            if name not in costs:
                raise unknown("cost", name, costs, where="objective.costs")
        require(
            0 <= self.tolerance < 1,
            f"objective.tolerance is {self.tolerance}",
            where="objective.tolerance",
            expected="a share from 0 to below 1",
        )


@dataclass(frozen=True)
class RunnerSettings:
    """How trials are run.

    Attributes:
        kind: ``"ray"`` or ``"local"``.
        workers: trials at the same time; None means one per core, on a cluster as many as fit.
        threads: torch threads per trial.
        address: ``"local"`` for a private Ray, else ``host:port`` of a cluster.
        cpus, gpus: what one trial holds; fractions share. None means ``threads`` CPUs.
        retries: times a trial is started again after its process or node is lost.
        evaluators: shared evaluator processes; 0 means that trials evaluate themselves.
        ledger: directory of a second, synced record of every evaluation, for audits.
    """

    kind: str = "ray"
    workers: int | None = None
    threads: int = 1
    address: str = "local"
    cpus: float | None = None
    gpus: float = 0.0
    retries: int = 1
    evaluators: int = 0
    ledger: str | None = None

    @property
    def trial_cpus(self) -> float:
        """CPUs of one trial; next to none where shared evaluators do the work."""
        if self.cpus is not None:
            return self.cpus
        return FEEDING_CPUS if self.evaluators else self.threads

    @property
    def evaluator_cpus(self) -> float:
        """CPUs of one shared evaluator; what is left of its core feeds it."""
        return self.threads - 10 * FEEDING_CPUS

    def __post_init__(self) -> None:
        if self.kind not in RUNNERS:
            raise unknown("runner", self.kind, RUNNERS, where="runner.kind")
        least = {
            "workers": 1,
            "threads": 1,
            "cpus": 0.0001,
            "gpus": 0,
            "retries": 0,
            "evaluators": 0,
        }
        for name, bound in least.items():
            value = getattr(self, name)
            require(
                value is None or value >= bound,
                f"runner.{name} is {value}",
                where=f"runner.{name}",
                expected=f"{bound} or more",
            )
        require(
            self.kind == "ray" or not self.evaluators,
            f"runner.evaluators is {self.evaluators}",
            where="runner.evaluators",
            expected="0 with runner=local, which evaluates in its own process",
            fix="runner=ray",
        )


@dataclass(frozen=True)
class LadderSettings:
    """Dearer methods for the final front; see :mod:`search.ladder`.

    Attributes:
        rungs: repairs of each further rung, joined by ``+``; none for a study of one rung.
        policies: on which rankings of adjacent rungs are compared, at least 2.
    """

    rungs: tuple[str, ...] = ()
    policies: int = 20

    def __post_init__(self) -> None:
        require(
            self.policies >= 2,
            f"ladder.policies is {self.policies}",
            where="ladder.policies",
            expected="2 or more",
        )

    def methods(self, first: Method) -> list[Method]:
        """Methods of all rungs, the study's ``first``.

        Raises:
            UsageError: an unknown repair, repairs that exclude each other, or a rung twice.
        """
        where, found = "ladder.rungs", [first]
        for rung in self.rungs:
            try:
                made = replace(first, name=rung, repair=tuple(rung.split("+")))
            except UsageError as cause:
                raise UsageError(
                    cause.what, where=where, expected=cause.expected, fix=cause.fix
                ) from cause
            require(
                all(set(made.repair) != set(other.repair) for other in found),
                f"rung '{rung}' is there already",
                where=where,
                expected="rungs that differ from the method and from each other",
            )
            found.append(made)
        return found


@dataclass(frozen=True)
class Settings:
    """One study.

    Attributes:
        study: name of the study.
        run_dir: directory of the run.
        task: ``{"_target_": ..., ...}`` of a task builder, with its ``name``.
        space: search-space configuration.
        strategies: target configuration by strategy name.
        scores: target configuration of the scores strategies may ask for, by kind.
        hw: device configuration by device name.
        objective, budget, method, runner: see their classes.
        ladder: further rungs.
        seeds: one trial per strategy and seed.
        resume: ``"auto"``, ``"fresh"`` or ``"extend"``.
        dry_run: stop after the plan.
        min_success: successful candidates below which the exit code is 6.
        plugins: further package prefixes for targets.
        trackers: target configuration of tools the study is handed to, by name.
    """

    study: str
    run_dir: str
    task: Mapping[str, Any]
    space: SpaceConfig
    strategies: Mapping[str, Mapping[str, Any]]
    scores: Mapping[str, Mapping[str, Any]]
    hw: Mapping[str, Mapping[str, Any]]
    objective: ObjectiveSettings
    budget: Budget
    method: Method
    runner: RunnerSettings
    ladder: LadderSettings = LadderSettings()
    seeds: tuple[int, ...] = (0,)
    resume: str = "auto"
    dry_run: bool = False
    min_success: int = 1
    plugins: tuple[str, ...] = ()
    trackers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Settings:
        """Checks a whole configuration.

        Raises:
            UsageError: naming the key, what was found and what was expected.
        """
        raw = from_mapping(_Raw, data, "config")
        require(bool(raw.strategy), "no strategy chosen", where="strategy", fix="strategy=random")
        require(bool(raw.seeds), "no seed given", where="seeds", fix="seeds=[0]")
        require(
            len(set(raw.seeds)) == len(raw.seeds) and min(raw.seeds) >= 0,
            f"seeds are {list(raw.seeds)}",
            where="seeds",
            expected="different integers, 0 or more",
        )
        if raw.resume not in RESUME:
            raise unknown("resume mode", raw.resume, RESUME, where="resume")
        budget = from_mapping(Budget, raw.budget, "budget")
        _check_budget(budget)
        method = from_mapping(Method, raw.method, "method")
        ladder = from_mapping(LadderSettings, raw.ladder, "ladder")
        ladder.methods(method)
        return Settings(
            study=raw.study,
            run_dir=raw.run_dir,
            task=raw.task,
            space=SpaceConfig.from_dict(raw.space, where="space"),
            strategies=raw.strategy,
            scores=raw.score,
            hw=raw.hw,
            objective=from_mapping(ObjectiveSettings, raw.objective, "objective"),
            budget=budget,
            method=method,
            runner=from_mapping(RunnerSettings, raw.runner, "runner"),
            ladder=ladder,
            seeds=raw.seeds,
            resume=raw.resume,
            dry_run=raw.dry_run,
            min_success=raw.min_success,
            plugins=raw.plugins,
            trackers=raw.tracker,
        )


@dataclass(frozen=True)
class _Raw:
    """Shape of the composed configuration before its groups are read."""

    study: str
    run_dir: str
    task: dict[str, Any]
    space: dict[str, Any]
    objective: dict[str, Any]
    budget: dict[str, Any]
    method: dict[str, Any]
    runner: dict[str, Any]
    # Hydra leaves a key out when its list of choices is empty.
    strategy: dict[str, Any] = field(default_factory=dict)
    score: dict[str, Any] = field(default_factory=dict)
    hw: dict[str, Any] = field(default_factory=dict)
    ladder: dict[str, Any] = field(default_factory=dict)
    tracker: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    resume: str = "auto"
    dry_run: bool = False
    min_success: int = 1
    plugins: tuple[str, ...] = ()


def _check_budget(budget: Budget) -> None:
    for name in ("evaluations", "seconds", "batch"):
        value = getattr(budget, name)
        require(
            value is None or value > 0,
            f"budget.{name} is {value}",
            where=f"budget.{name}",
            expected="more than 0",
        )


def config_hash(data: Mapping[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of the configuration's canonical JSON."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


IDENTITY_KEYS = (
    "task",
    "space",
    "method",
    "ladder",
    "objective",
    "hw",
    "strategy",
    "score",
    "seeds",
)
"""Keys that must not change between a run and its resumption."""


def identity(data: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that decides which candidates mean what."""
    return {key: data[key] for key in IDENTITY_KEYS if key in data}


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Differences of two nested mappings as ``key: old -> new`` lines, sorted by key."""
    lines = []
    for key in sorted({*old, *new}, key=str):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += changed_keys(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {before} -> {after}")
    return lines


EXTENDABLE = ("strategy", "score", "seeds")
"""Keys that ``resume=extend`` may add to; what is there must stay as it is."""


def refuse_changes(
    old: Mapping[str, Any], new: Mapping[str, Any], run_dir: str, *, extend: bool = False
) -> None:
    """Raises UsageError when a resumed run's identity changed, listing the keys.

    With ``extend`` strategies and seeds may be added (and the budget raised); the candidates
    that are there keep their meaning.
    """
    before, after = identity(old), identity(new)
    if extend:
        after = {**after, **_shrunk(before, after)}
    lines = changed_keys(before, after)
    if lines:
        raise UsageError(
            "the run directory holds a study with another configuration:\n    "
            + "\n    ".join(lines),
            where=run_dir,
            fix="use another study=NAME, resume=fresh to set the old run aside, or resume=extend "
            "to add strategies or seeds",
        )


def _shrunk(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The extendable keys of ``after`` without what was added to ``before``."""
    found: dict[str, Any] = {}
    for key in EXTENDABLE:
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found[key] = {name: value for name, value in new.items() if name in old}
        elif isinstance(old, list) and isinstance(new, list):
            found[key] = [value for value in new if value in old]
    return found
