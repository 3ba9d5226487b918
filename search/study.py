"""A study from plan to front: scores, trials, one read of the test split, records on disk."""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from quant.errors import BitfrontError, DataError, TooFewError, UsageError, unknown
from quant.sensitivity.base import Score, ScoreContext, ScoreTable
from search import files
from search.evaluate import Evaluator
from search.finish import finish
from search.latency import frame, ops_frame
from search.live import Board, follow
from search.lock import lock
from search.plan import Plan, build_trackers
from search.progress import Bar, say
from search.runner.base import BASELINE, Job, Shared, StopFlag
from search.settings import config_hash, identity, refuse_changes
from search.targets import build
from search.tasks.shipping import pack
from search.trackers.base import Record, track
from spaces.baselines import uniform_policies

SUBSET = "subset"
"""Setting of every score: how many calibration samples it may use; all when absent."""
SCORE_BATCH = 25
"""Samples per batch of a score: small batches give random probes more vectors for equal work."""
log = logging.getLogger(__name__)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
INTERRUPTED = {2: 130, 15: 143}


@dataclass(frozen=True)
class Outcome:
    """How a study ended.

    Attributes:
        run_dir: where everything was written.
        front: content of ``front.json``.
        table: candidate table.
        errors: ``{trial: message}`` of trials that raised.
        exit_code: 0, 6 (too few candidates), 130 or 143 (interrupted, resumable).
    """

    run_dir: Path
    front: Mapping[str, Any]
    table: pd.DataFrame
    errors: Mapping[str, str]
    exit_code: int


def run_study(plan: Plan, raw: Mapping[str, Any], command: str) -> Outcome:
    """Runs or resumes a study.

    Args:
        plan: from :func:`search.plan.make_plan`.
        raw: the resolved configuration as plain data, stored in the run.
        command: the command line, stored in the manifest.

    Raises:
        DataError: the run directory is in use or cannot be written.
        UsageError: it holds a study with another configuration.
        TooFewError: fewer than ``min_success`` candidates succeeded.
    """
    settings = plan.settings
    run_dir = Path(settings.run_dir).absolute()
    files.prepare_run_dir(run_dir, settings.resume)
    with lock(run_dir), files.log_to(run_dir / "run.log"):
        log.info("%s", command)
        _refuse_other_study(run_dir, raw, extend=settings.resume == "extend")
        with _status(run_dir):
            manifest = _manifest(plan, raw, command)
            _write_inputs(run_dir, plan, raw, manifest)
            files.set_status(run_dir, "running")
            outcome = _run(plan, run_dir, manifest)
        state = "interrupted" if outcome.exit_code >= 128 else "finished"
        files.set_status(run_dir, state, "", outcome.exit_code)
    successes = int((outcome.table["status"] == "ok").sum())
    if outcome.exit_code == 0 and successes < settings.min_success:
        raise TooFewError(
            f"{successes} candidates succeeded, {settings.min_success} are asked for",
            where=str(run_dir),
            fix="read run.log and trials/*.jsonl for the reasons, or lower min_success",
        )
    return outcome


@contextmanager
def _status(run_dir: Path) -> Iterator[None]:
    """Writes down a failure; a full disk becomes a message."""
    try:
        yield
    except BaseException as cause:
        told: BaseException = cause
        if isinstance(cause, OSError) and cause.errno in FULL:
            told = _full(run_dir, cause)
        with suppress(OSError):
            code = told.exit_code if isinstance(told, BitfrontError) else 1
            files.set_status(run_dir, "failed", f"{type(told).__name__}: {told}", code)
        if told is cause:
            raise
        raise told from cause


def _full(run_dir: Path, cause: OSError) -> DataError:
    return DataError(
        f"the disk of the run directory is full: {os.strerror(cause.errno or errno.ENOSPC)}",
        where=str(run_dir),
        expected="room for journals and reports, some megabytes",
        fix="free space and run the same command again: it goes on where it stopped",
    )


def _run(plan: Plan, run_dir: Path, manifest: dict[str, Any]) -> Outcome:
    evaluator = Evaluator(plan.task, plan.space, plan.settings.method)
    scores = compute_scores(plan, evaluator, run_dir)
    stop = StopFlag()
    handlers = stop.install()
    try:
        errors = _run_trials(plan, scores, run_dir, stop)
    finally:
        stop.restore(handlers)
    for trial, error in errors.items():
        say(f"trial {trial} failed: {error}")
        log.error("trial %s failed: %s", trial, error)
    front, table = finish(plan, evaluator, run_dir, scores)
    log.info("%d candidates, %d failed", len(table), int((table["status"] != "ok").sum()))
    exit_code = INTERRUPTED.get(stop.signal_number, 0) if stop() else 0
    manifest |= {
        "ended": files.now(),
        "exit_code": exit_code,
        "search_queries": len(table),
        "trial_errors": errors,
        "score_seconds": {kind: round(table.seconds, 3) for kind, table in scores.items()},
    }
    files.write_json(run_dir / "manifest.json", manifest)
    trackers = build_trackers(plan.settings)
    objectives = (plan.settings.objective.quality, *plan.cost_metrics)
    track(trackers, Record(plan.settings.study, run_dir, plan.space, table, objectives, manifest))
    return Outcome(run_dir, front, table, errors, exit_code)


def compute_scores(plan: Plan, evaluator: Evaluator, run_dir: Path) -> dict[str, ScoreTable]:
    """Computes every score a chosen strategy needs, once, and stores them.

    Returns:
        Score tables by kind; values cover searchable and baseline-only choices.
    """
    kinds = sorted(set().union(*(s.needs() for s in plan.strategies().values())))
    tables = {}
    for kind in kinds:
        if kind not in plan.settings.scores:
            raise unknown("score", kind, plan.settings.scores, where="score")
        score = build_score(plan, kind)
        bar = Bar(f"score {kind}")
        tables[kind] = score.compute(score_context(plan, evaluator, kind), bar)
        log.info("score %s: %.1f s %s", kind, tables[kind].seconds, "; ".join(tables[kind].notes))
    if tables:
        _write_scores(run_dir, plan, tables)
    return tables


def build_score(plan: Plan, kind: str) -> Score:
    """A score from its configuration; ``subset`` is the context's, not the score's."""
    config = {key: value for key, value in plan.settings.scores[kind].items() if key != SUBSET}
    score: Score = build(config, plan.settings.plugins, where=f"score.{kind}")
    return score


def score_context(plan: Plan, evaluator: Evaluator, kind: str = "") -> ScoreContext:
    """What scores may look at: the calibrated model and the calibration split.

    Args:
        plan: the study.
        evaluator: holds the calibrated model.
        kind: score whose ``subset`` setting limits the samples.

    Raises:
        UsageError: more samples are asked for than there are.
    """
    there = len(plan.task.calibration.inputs)
    asked = plan.settings.scores.get(kind, {}).get(SUBSET) or there
    if not 1 <= asked <= there:
        raise UsageError(
            f"{asked} samples are asked for, the calibration split has {there}",
            where=f"score.{kind}.{SUBSET}",
            expected=f"1 to {there}",
            fix=f"set score.{kind}.{SUBSET}={there}, or give the task more calibration data",
        )
    labels = None if plan.task.synthetic else plan.task.calibration.labels[:asked]
    return ScoreContext(
        quantized=evaluator.quantized,
        groups=tuple(group.layers for group in plan.space.groups),
        choices=tuple(group.all_choices for group in plan.space.groups),
        inputs=plan.task.calibration.inputs[:asked],
        labels=labels,
        batch_size=min(SCORE_BATCH, plan.task.batch_size),
        generator=torch.Generator().manual_seed(0),
    )


def _run_trials(
    plan: Plan, scores: Mapping[str, ScoreTable], run_dir: Path, stop: StopFlag
) -> dict[str, str]:
    settings = plan.settings
    skeleton, arrays = pack(plan.task)
    shared = Shared(
        skeleton=skeleton,
        space=plan.space,
        method=settings.method,
        costs=plan.costs,
        constraints=plan.constraints,
        scores=scores,
        quality=settings.objective.quality,
        cost_metrics=plan.cost_metrics,
        budget=settings.budget,
        threads=settings.runner.threads,
        trials_dir=run_dir / "trials",
        plugins=settings.plugins,
        ledger=Path(settings.runner.ledger).absolute() if settings.runner.ledger else None,
    )
    jobs = [Job(BASELINE, {}, 0)] + [
        Job(name, config, seed)
        for name, config in settings.strategies.items()
        for seed in settings.seeds
    ]
    with follow(_board(plan, jobs), run_dir / "trials"):
        if settings.runner.kind == "local":
            from search.runner import local

            return local.run_jobs(jobs, shared, arrays, stop)
        from search.runner import ray_tune

        return ray_tune.run_jobs(jobs, shared, arrays, stop, settings.runner, run_dir)


def _board(plan: Plan, jobs: Sequence[Job]) -> Board:
    """What is shown while trials run: the front against the first cost."""
    uniform = len(uniform_policies(plan.space))
    evaluations = plan.settings.budget.evaluations
    budgets = {
        f"{job.strategy}-{job.seed}": uniform if job.is_baseline else evaluations for job in jobs
    }
    quality, metric = plan.settings.objective.quality, plan.cost_metrics[0]
    return Board(plan.space, plan.costs, quality, metric, plan.task.classes, budgets)


def _refuse_other_study(run_dir: Path, raw: Mapping[str, Any], *, extend: bool) -> None:
    path = run_dir / "config.yaml"
    if path.exists():
        old = yaml.safe_load(path.read_text())
        refuse_changes(old, json.loads(json.dumps(raw)), run_dir.name, extend=extend)


def _manifest(plan: Plan, raw: Mapping[str, Any], command: str) -> dict[str, Any]:
    task, settings = plan.task, plan.settings
    return {
        "study": settings.study,
        "command": command,
        "started": files.now(),
        "ended": None,
        "exit_code": None,
        **files.environment(),
        "config_hash": config_hash(raw),
        "identity_hash": config_hash(identity(raw)),
        "task": {
            "name": task.name,
            "title": task.title,
            "metric": task.metric,
            "classes": task.classes,
            "n_calibration": task.calibration.n,
            "n_search": task.search.n,
            "n_test": task.test.n,
            "data_hash": task.data_hash,
            "weights_hash": task.weights_hash,
        },
        "method": {"name": settings.method.name},
        "device": {
            "name": plan.profile.device.name,
            "cpu_flags": list(plan.profile.device.cpu_flags),
            "threads": plan.profile.threads,
            "runtime": f"{plan.profile.runtime} {plan.profile.runtime_version}",
        },
        "profile_hash": plan.profile.hash,
        "strategies": list(settings.strategies),
        "seeds": list(settings.seeds),
        "objectives": [settings.objective.quality, *plan.cost_metrics],
        "table_seconds": round(plan.table_seconds, 3),
        "constraints": [f"{item.metric} <= {item.limit:g}" for item in plan.constraints],
    }


def _write_inputs(
    run_dir: Path, plan: Plan, raw: Mapping[str, Any], manifest: Mapping[str, Any]
) -> None:
    plain = json.loads(json.dumps(raw))
    files.write_text(run_dir / "config.yaml", yaml.safe_dump(plain, sort_keys=False))
    files.write_json(run_dir / "layers.json", plan.space.to_json())
    files.write_json(run_dir / "costs.json", _costs(plan))
    plan.profile.save(run_dir / "profile.json")
    for name, profile in list(plan.profiles.items())[1:]:
        profile.save(run_dir / f"profile-{name}.json")
    if plan.checks:
        files.write_table(run_dir / "latency_check.parquet", frame(plan.checks))
        files.write_table(run_dir / "latency_ops.parquet", ops_frame(plan.op_checks))
    files.write_json(run_dir / "manifest.json", manifest)


def _costs(plan: Plan) -> dict[str, Any]:
    """Additive cost tables ``[groups][choices]``, null where a group has no such choice."""
    tables = {
        metric: [
            [None if np.isnan(value) else float(value) for value in row]
            for row in plan.costs.table(metric)
        ]
        for metric in plan.costs.metrics
    }
    return {"tables": tables, "provenance": plan.costs.provenance()}


def _write_scores(run_dir: Path, plan: Plan, tables: Mapping[str, ScoreTable]) -> None:
    rows = [
        {
            "kind": kind,
            "layer": group.name,
            "group": g,
            "choice": choice.text,
            "value": float(table.value[g, c]),
            "standard_error": float(table.standard_error[g, c]),
        }
        for kind, table in tables.items()
        for g, group in enumerate(plan.space.groups)
        for c, choice in enumerate(group.all_choices)
    ]
    files.write_table(run_dir / "sensitivity.parquet", pd.DataFrame(rows))
    for kind, table in tables.items():
        if table.surrogate is not None:
            files.write_arrays(run_dir / f"surrogate-{kind}.npz", table.surrogate.arrays())


def elapsed(started: float) -> str:
    """Seconds since ``time.monotonic()`` value ``started`` as ``1m05s``."""
    seconds = int(time.monotonic() - started)
    return f"{seconds // 60}m{seconds % 60:02d}s"
