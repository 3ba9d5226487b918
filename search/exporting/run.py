"""A finished run opened again: its task, space and judge, and the policies it names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from quant.errors import DataError, UsageError, unknown
from search.evaluate import Evaluator
from search.plan import load_task
from search.records import decode_codes
from search.settings import Settings
from search.tasks.base import Task
from search.tasks.synthetic import with_calibration
from spaces.policy import Policy
from spaces.space import SearchSpace

ROLES = {"fastest": ("smallest", "latency_ms"), "smallest": ("smallest", "size_bytes")}
WITHIN = {"fastest_within": "latency_ms", "smallest_within": "size_bytes"}
LEAST_ID = 4


@dataclass(frozen=True)
class Run:
    """A run directory with everything an export reads.

    Attributes:
        path: the directory.
        settings: its configuration.
        task: the model and data it was searched on, checked by hash.
        space: its resolved space.
        front: content of ``front.json``.
        manifest: content of ``manifest.json``.
    """

    path: Path
    settings: Settings
    task: Task
    space: SearchSpace
    front: Mapping[str, Any]
    manifest: Mapping[str, Any]

    @cached_property
    def evaluator(self) -> Evaluator:
        """The judge of the search."""
        return Evaluator(self.task, self.space, self.settings.method)

    @cached_property
    def tags(self) -> Mapping[str, str]:
        """Policy id of every uniform baseline (``fp32``, ``w8a8``, ...)."""
        entries = self.front["policies"].items()
        return {str(entry["tag"]): str(name) for name, entry in entries if entry.get("tag")}

    def policy(self, policy_id: str) -> Policy:
        """A policy of the fronts, baselines and picks, or any evaluated one.

        Raises:
            DataError: its file and the candidate table are both gone.
        """
        entry = self.front["policies"].get(policy_id)
        codes = entry["codes"] if entry else self._evaluated.get(policy_id)
        if codes is None:
            raise DataError(f"policy '{policy_id}' is not in the run", where=self.path.name)
        return self.space.policy(decode_codes(codes))

    @cached_property
    def _evaluated(self) -> Mapping[str, str]:
        path = self.path / "trials.parquet"
        if not path.exists():
            return {}
        table = pd.read_parquet(path, columns=["policy_id", "codes"])
        return dict(zip(table["policy_id"], table["codes"], strict=True))

    def choose(self, text: str) -> list[str]:
        """Ids of the policies a person names.

        Args:
            text: ``front``; ``knee``, ``accurate``, ``smallest`` or ``fastest`` (picks of the
                report); ``smallest_within:0.5pt`` or ``fastest_within:0.5pt`` (cheapest whose
                accuracy on the search split is at most half a percentage point below the float
                model's); the tag of a baseline; or an id, or the beginning of one.

        Raises:
            UsageError: nothing, or more than one policy, has that name.
        """
        if text == "front":
            fronts = self.front["fronts"].values()
            return list(dict.fromkeys(name for front in fronts for name in front))
        word, _, amount = text.partition(":")
        if word in WITHIN:
            return [self._within(WITHIN[word], _share(amount, text))]
        if text in self.tags:
            return [self.tags[text]]
        picked = self._picked(text)
        if picked is not None:
            return [picked]
        known = dict.fromkeys([*self.front["policies"], *self._evaluated])
        found = [name for name in known if len(text) >= LEAST_ID and name.startswith(text)]
        if len(found) == 1:
            return found
        if found:
            raise UsageError(f"{len(found)} policies begin with '{text}'", where="policy")
        words = ["front", "knee", "accurate", "smallest", "fastest", *self.tags, *known]
        raise unknown("policy", text, words[:40], where="policy")

    def _picked(self, role: str) -> str | None:
        """A pick of that role; of the first cost where the role does not name one."""
        wanted, cost = ROLES.get(role, (role, ""))
        for pick in self.front["picks"]:
            if pick["role"] == wanted and cost in ("", pick["cost"]):
                return str(pick["policy_id"])
        return None

    def _within(self, metric: str, loss: float) -> str:
        entries = self.front["policies"]
        least = entries[self.tags["fp32"]]["accuracy"] - loss
        able = [name for name, entry in entries.items() if entry["accuracy"] >= least]
        if not all(metric in entries[name] for name in able):
            raise UsageError(f"the run has no {metric}", where="policy")
        return str(min(able, key=lambda n: (entries[n][metric], entries[n]["size_bytes"], n)))


def open_run(path: Path) -> Run:
    """Reads a run and rebuilds the task it was searched on.

    Raises:
        DataError: no run, no front yet, or another model or data than that of the search.
    """
    config, layers = path / "config.yaml", path / "layers.json"
    front, manifest = path / "front.json", path / "manifest.json"
    for file in (config, layers, manifest, front):
        if not file.exists():
            raise DataError(
                f"{file.name} is missing",
                where=str(path),
                expected="the directory of a finished run",
                fix="name a run, for example run=runs/demo; an interrupted one is finished by "
                "the same search command",
            )
    settings = Settings.from_dict(yaml.safe_load(config.read_text()))
    task = with_calibration(load_task(settings), settings.method)
    record = json.loads(manifest.read_text())
    for name in ("weights_hash", "data_hash"):
        then, now = record["task"][name], getattr(task, name)
        if then != now:
            raise DataError(
                f"the task's {name} is {now}, the run was searched on {then}",
                where=path.name,
                expected="the weights and data of the search",
                fix="restore the cached model, or search again on this one (weights trained on "
                "another machine, as with task.train=true, differ from those trained here)",
            )
    space = SearchSpace.from_json(json.loads(layers.read_text()))
    return Run(path, settings, task, space, json.loads(front.read_text()), record)


def _share(amount: str, text: str) -> float:
    points = amount.strip().removesuffix("pt")
    try:
        value = float(points)
    except ValueError:
        value = -1.0
    if value < 0:
        raise UsageError(
            f"'{text}' names no loss of accuracy",
            where="policy",
            expected="percentage points, for example fastest_within:0.5pt",
        )
    return value / 100 if amount.strip().endswith("pt") else value


def roles_of(run: Run, policy_id: str) -> Sequence[str]:
    """Words for a policy: its tag, and what it was picked as."""
    tag = run.front["policies"].get(policy_id, {}).get("tag", "")
    picks = [
        f"{p['role']} ({p['cost']})" for p in run.front["picks"] if p["policy_id"] == policy_id
    ]
    return [*([tag] if tag else []), *picks]
