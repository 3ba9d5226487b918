"""One run directory as frozen data: everything a report says comes from here.

Works without torch, ray or the model, so a laptop renders a cluster's run. Files that may be
missing are tolerated and named in ``notes``; ``docs/run_directory.md`` is the contract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from hw_profiles import footprint
from quant.errors import DataError
from reports.exports import read_exports
from reports.fronts import CostInfo, Front, cost_objective, positions, read_front, rebuild_front
from reports.reading import is_torn, read_json, read_lines, read_table
from search.latency_figures import Figures, figures
from search.pareto import Floats
from search.records import decode_codes, read_journals, to_frame
from search.table import in_space, mean_bits
from spaces.space import SearchSpace

DEFAULT_TOLERANCE = 0.01
CHECK_COLUMNS = frozenset(
    (
        "drawn",
        "predicted_ms",
        "node_sum_ms",
        "measured_ms",
        "measured_again_ms",
        "sum_ms",
        "bops",
        "size_bytes",
    )
)
LOG_LINES = 400


@dataclass(frozen=True)
class ReportData:
    """Everything known about one run.

    Attributes:
        path: the run as named in copyable commands; never absolute.
        manifest: ``manifest.json``.
        state: ``running``, ``finished``, ``failed``, ``interrupted`` or ``unknown``.
        message: what status.json says beside the state.
        config: text of ``config.yaml``.
        space: layers, groups and choices.
        table: one row per candidate of every trial, baselines included.
        front: fronts, picks and baselines.
        tables: additive cost ``float[groups, choices]`` by metric, NaN-padded.
        sensitivity: score tables, or None.
        latency_check: predicted and measured latency of whole policies, or None.
        latency_ops: the same by op type of their graphs, or None.
        profile: the latency table used, or None.
        log: last lines of ``run.log``.
        notes: what is missing, torn or unfinished, in sentences.
        exports: records of exported policies, see :mod:`reports.exports`.
        learning: what trials that learn recorded, by ``<strategy>-<seed>``.
    """

    path: str
    manifest: Mapping[str, Any]
    state: str
    message: str
    config: str
    space: SearchSpace
    table: pd.DataFrame
    front: Front
    tables: Mapping[str, Floats] = field(default_factory=dict)
    sensitivity: pd.DataFrame | None = None
    latency_check: pd.DataFrame | None = None
    latency_ops: pd.DataFrame | None = None
    profile: Mapping[str, Any] | None = None
    log: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    exports: tuple[Mapping[str, Any], ...] = ()
    learning: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the study."""
        return str(self.manifest.get("study") or self.path.rsplit("/", 1)[-1])

    @property
    def quality(self) -> str:
        """Name of the quality objective."""
        return self.front.quality

    @property
    def costs(self) -> tuple[str, ...]:
        """Metrics with a front, the main one first."""
        return tuple(self.front.costs)

    @cached_property
    def ok(self) -> pd.DataFrame:
        """Successful candidates."""
        return self.table[self.table["status"] == "ok"]

    @cached_property
    def unique(self) -> pd.DataFrame:
        """One row per policy: the first successful one, else the first."""
        order = (self.table["status"] != "ok").to_numpy().argsort(kind="stable")
        rows = self.table.iloc[order].drop_duplicates("policy_id")
        return rows.sort_index().reset_index(drop=True)

    def strategies(self) -> tuple[str, ...]:
        """Strategies with candidates, in the order of the manifest; without baselines."""
        found = [s for s in self.table["strategy"].unique() if s != "baseline"]
        known = [s for s in self.manifest.get("strategies", ()) if s in found]
        return tuple(known + [s for s in found if s not in known])

    def trials(self) -> list[tuple[str, int, pd.DataFrame]]:
        """``(strategy, seed, rows)`` of every trial, baselines left out."""
        parts = self.table.groupby(["strategy", "seed"], sort=False)
        found = {
            (str(rows["strategy"].iloc[0]), int(rows["seed"].iloc[0])): rows for _, rows in parts
        }
        order = {name: place for place, name in enumerate(self.strategies())}
        keys = sorted((key for key in found if key[0] in order), key=lambda k: (order[k[0]], k[1]))
        return [(name, seed, found[name, seed]) for name, seed in keys]

    def front_table(self, cost: str) -> pd.DataFrame:
        """Candidates of the front of ``cost``, by rising cost."""
        rows = positions(self.unique, self.front.fronts.get(cost, ()))
        return self.unique.iloc[rows].reset_index(drop=True)

    def codes(self, text: str) -> npt.NDArray[np.int64]:
        """Decodes one candidate's ``codes``, ``int[groups]``."""
        return np.array(decode_codes(text), dtype=np.int64)

    @cached_property
    def latency_figures(self) -> Figures | None:
        """Figures of the end-to-end check over mixed policies; None without a whole check."""
        check = self.latency_check
        if check is None or not set(check.columns) >= CHECK_COLUMNS:
            return None
        return figures(check)

    def latency_error(self) -> float | None:
        """Mean absolute error of predicted whole-policy latency, a share; None when unchecked.

        Over mixed policies drawn by seed where the check says which those are, else over all.
        """
        if self.latency_check is None or not len(self.latency_check):
            return None
        if self.latency_figures is not None:
            return self.latency_figures.additive.mape
        predicted = self.latency_check["predicted_ms"].to_numpy(dtype=np.float64)
        measured = self.latency_check["measured_ms"].to_numpy(dtype=np.float64)
        return float(np.mean(np.abs(predicted - measured) / measured))


def is_run(path: Path) -> bool:
    """True for a directory that a study wrote."""
    return (path / "manifest.json").is_file()


def load_run(path: Path | str) -> ReportData:
    """Reads a run directory.

    Raises:
        DataError: not a run directory, without candidates, damaged, or of a newer schema.
    """
    path = Path(path)
    manifest = _manifest(path)
    status = read_json(path / "status.json") or {}
    state = str(status.get("state", "unknown"))
    space = _space(path)
    notes = _notes(path, state, status)
    table, complete = _candidates(path, space, state)
    if not len(table):
        raise DataError(
            f"run '{path.name}' has no candidates yet",
            where=shown_path(path),
            expected="at least one line in trials/*.jsonl",
            fix="wait for the first evaluation, or read run.log for why it stopped",
        )
    costs_file = read_json(path / "costs.json") or {}
    config = "\n".join(read_lines(path / "config.yaml"))
    front = _front(path, table, costs_file, manifest, config, complete)
    return ReportData(
        path=shown_path(path),
        manifest=manifest,
        state=state,
        message=str(status.get("message") or ""),
        config=config,
        space=space,
        table=table,
        front=front,
        tables=_tables(space, costs_file),
        sensitivity=read_table(path / "sensitivity.parquet"),
        latency_check=read_table(path / "latency_check.parquet"),
        latency_ops=read_table(path / "latency_ops.parquet"),
        profile=read_json(path / "profile.json"),
        log=read_lines(path / "run.log")[-LOG_LINES:],
        notes=tuple(notes),
        exports=read_exports(path),
        learning=_learning(path / "trials"),
    )


LEARNING = ".learning.json"


def _learning(trials: Path) -> dict[str, Mapping[str, Any]]:
    """Records of trials that learn; unreadable ones are left out."""
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted(trials.glob(f"*{LEARNING}")):
        record = read_json(path)
        if record:
            found[path.name.removesuffix(LEARNING)] = record
    return found


def shown_path(path: Path) -> str:
    """The run as a command names it: from ``runs/`` on, else its own name; never absolute."""
    parts = path.absolute().parts
    if "runs" in parts[:-1]:
        last = len(parts) - 1 - parts[:-1][::-1].index("runs") - 1
        return "/".join(parts[last:])
    return path.absolute().name


def _manifest(path: Path) -> dict[str, Any]:
    manifest = read_json(path / "manifest.json") if path.is_dir() else None
    if manifest is None:
        raise DataError(
            f"'{path.name}' is not a run directory",
            where=str(path),
            expected="a directory with manifest.json, as bitfront-search writes it",
            fix="give the directory of one study, for example runs/demo",
        )
    return manifest


def _space(path: Path) -> SearchSpace:
    data = read_json(path / "layers.json")
    if data is None:
        raise DataError(
            "layers.json is missing: candidates cannot be decoded without it",
            where=shown_path(path),
            fix="restore the file, or run the same search command again: it resumes",
        )
    return SearchSpace.from_json(data)


def _notes(path: Path, state: str, status: Mapping[str, Any]) -> list[str]:
    notes = []
    if state == "running":
        when = f" (as of {status['updated']})" if status.get("updated") else ""
        notes.append(f"The run is still in progress{when}: every number here may change.")
    if state in ("failed", "interrupted"):
        why = f": {status['message']}" if status.get("message") else ""
        notes.append(f"The run was {state}{why}. The same command resumes it.")
    torn = [p.name for p in sorted((path / "trials").glob("*.jsonl")) if is_torn(p)]
    if torn:
        notes.append(f"The last line of {', '.join(torn)} is torn and was left out.")
    missing = [
        name
        for name in ("status.json", "trials.parquet", "front.json", "costs.json", "profile.json")
        if not (path / name).exists()
    ]
    if missing and state != "running":
        notes.append(f"Missing in the run directory: {', '.join(missing)}.")
    return notes


def _candidates(path: Path, space: SearchSpace, state: str) -> tuple[pd.DataFrame, bool]:
    """The candidate table, and whether it is the merged one with all costs."""
    stored = read_table(path / "trials.parquet")
    if stored is not None and state != "running":
        return _completed(stored, space), True
    table = to_frame(read_journals(path / "trials"))
    return (_completed(table, space) if len(table) else table), False


def _completed(table: pd.DataFrame, space: SearchSpace) -> pd.DataFrame:
    """Adds the columns that follow from the codes alone, where they are missing."""
    table = table.reset_index(drop=True)
    codes = np.array([decode_codes(text) for text in table["codes"]], dtype=np.int64)
    if codes.ndim != 2 or codes.shape[1] != len(space.groups):
        raise DataError(
            "candidates and layers.json are of different spaces",
            where="trials, layers.json",
            expected=f"{len(space.groups)} codes per candidate",
            fix="restore the layers.json this run was started with",
        )
    if "mean_weight_bits" not in table:
        table["mean_weight_bits"], table["mean_activation_bits"] = mean_bits(space, codes)
    if "searchable" not in table:
        table["searchable"] = in_space(space, codes)
    for metric, cost in _footprints(space).items():
        if metric not in table:
            table[metric] = cost[np.arange(codes.shape[1]), codes].sum(axis=1)
    return table


def _footprints(space: SearchSpace) -> dict[str, Floats]:
    """Size and BOPs of every choice of every group, ``float[groups, choices]``."""
    width = max(len(group.all_choices) for group in space.groups)
    tables = {name: np.full((len(space.groups), width), np.nan) for name in ("size_bytes", "bops")}
    for g, group in enumerate(space.groups):
        layers = [space.layer_named[name] for name in group.layers]
        for c, choice in enumerate(group.all_choices):
            tables["size_bytes"][g, c] = sum(footprint.size_bytes(x, choice) for x in layers)
            tables["bops"][g, c] = sum(footprint.bops(x, choice) for x in layers)
    return tables


def _tables(space: SearchSpace, stored: Mapping[str, Any]) -> dict[str, Floats]:
    found = _footprints(space)
    for metric, rows in stored.get("tables", {}).items():
        width = max((len(row) for row in rows), default=0)
        padded = [list(row) + [None] * (width - len(row)) for row in rows]
        found[metric] = np.array(padded, dtype=np.float64)
    return found


def _front(
    path: Path,
    table: pd.DataFrame,
    costs_file: Mapping[str, Any],
    manifest: Mapping[str, Any],
    config: str,
    complete: bool,
) -> Front:
    stored = read_json(path / "front.json")
    if stored is not None and complete:
        return read_front(stored)
    quality, *costs = manifest.get("objectives") or ["ce", "size_bytes"]
    provenance = costs_file.get("provenance", {})
    present = [metric for metric in costs if metric in table] or ["size_bytes"]
    infos = {metric: _info(metric, provenance) for metric in present}
    return rebuild_front(table, quality, infos, tolerance_of(config))


def _info(metric: str, provenance: Mapping[str, Any]) -> CostInfo:
    item = provenance.get(metric, {"kind": "computed"})
    return CostInfo(str(item.get("kind", "computed")), str(item.get("detail", "")), item)


def tolerance_of(config: str) -> float:
    """Accuracy the cheap picks may lose, from the text of ``config.yaml``."""
    try:
        data = yaml.safe_load(config) or {}
    except yaml.YAMLError:
        return DEFAULT_TOLERANCE
    objective = data.get("objective") if isinstance(data, dict) else None
    value = objective.get("tolerance") if isinstance(objective, dict) else None
    return float(value) if isinstance(value, int | float) else DEFAULT_TOLERANCE


def axis_label(metric: str, info: CostInfo | None = None) -> str:
    """Axis text of an objective with its unit and, for costs, where the number is from."""
    item = cost_objective(metric)
    # Ticks of bytes and BOPs carry their unit with an SI prefix.
    unit = f" ({item.unit})" if item.unit not in ("", "bytes", "BOPs") else ""
    if info is not None and metric.startswith("latency_ms") and info.kind != "computed":
        return f"{item.title}{unit}, {info.kind} table"
    return f"{item.title}{unit}"


def unique_ids(rows: Sequence[str]) -> list[str]:
    """Policy ids without repetition, in order."""
    return list(dict.fromkeys(rows))
