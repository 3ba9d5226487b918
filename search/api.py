"""A study from a notebook: model, data, space and device in; fronts, policies and report out.

Example::

    from search.api import search

    result = search(
        model,
        calibration=(x_calibration, y_calibration),
        search=(x_search, y_search),
        test=(x_test, y_test),
        space="w2348",
        strategies=["random", "hawq"],
        evaluations=40,
        run_dir="runs/mine",
    )
    result.front("size_bytes")     # a pandas table, one row per policy
    result.policy("knee")          # {layer: choice}
    result.report                  # path of the page
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from quant.errors import UsageError, unknown
from search.plan import make_plan
from search.settings import Settings
from search.study import run_study
from search.tasks.custom import task_from


@dataclass(frozen=True)
class SearchResult:
    """What a study found.

    Attributes:
        run_dir: the run directory.
        report: the HTML page.
        table: every candidate (columns in ``docs/run_directory.md``).
        record: content of ``front.json``.
    """

    run_dir: Path
    report: Path
    table: pd.DataFrame
    record: Mapping[str, Any]

    def front(self, cost: str = "size_bytes") -> pd.DataFrame:
        """Front of one cost metric by rising cost; ``test_*`` columns hold the test split.

        Raises:
            UsageError: the study has no front for ``cost``.
        """
        fronts = self.record["fronts"]
        if cost not in fronts:
            raise unknown("cost", cost, fronts)
        rows = []
        for policy_id in fronts[cost]:
            item = dict(self.record["policies"][policy_id])
            test = item.pop("test", {})
            rows.append(
                {"policy_id": policy_id, **item, **{f"test_{k}": v for k, v in test.items()}}
            )
        return pd.DataFrame(rows)

    def policy(self, name: str, cost: str = "size_bytes") -> dict[str, str]:
        """Choice of every layer, by policy id or by role (knee, accurate, smallest).

        Raises:
            UsageError: no such policy among fronts, picks and baselines.
        """
        picked = {p["role"]: p["policy_id"] for p in self.record["picks"] if p["cost"] == cost}
        policy_id = picked.get(name, name)
        path = self.run_dir / "policies" / f"{policy_id}.json"
        if policy_id not in self.record["policies"]:
            raise unknown("policy", name, [*picked, *self.record["policies"]])
        choices: dict[str, str] = json.loads(path.read_text())["choices"]
        return choices


def search(
    model: nn.Module,
    *,
    calibration: Any,
    search: Any,
    test: Any,
    space: str | Mapping[str, Any] = "w2348",
    hw: str = "this",
    strategies: Sequence[str] = ("random", "greedy", "nsga2", "hawq"),
    seeds: Sequence[int] = (0,),
    evaluations: int = 60,
    run_dir: str | Path = "runs/notebook",
    name: str = "notebook",
    overrides: Sequence[str] = (),
) -> SearchResult:
    """Searches bit-widths for ``model`` and writes a run directory with a report.

    Args:
        model: trained float model, ``[n, ...] -> [n, classes]``.
        calibration: ``(inputs, labels)`` tensors or an iterable of such batches.
        search: the same, for every quality a strategy sees; must not overlap the others.
        test: the same, read once for the final front.
        space: name of a space in ``conf/space`` or a mapping like one of those files.
        hw: device whose table is used; ``"this"`` measures what is missing.
        strategies: names in ``conf/strategy``.
        seeds: one trial per strategy and seed.
        evaluations: budget of each trial.
        run_dir: where to write; an existing run there is resumed when it is the same study.
        name: name of the task and study.
        overrides: further settings as on the command line, for example ``"method=rtn_minmax"``.

    Raises:
        BitfrontError: one of its kinds, see :mod:`quant.errors`.
    """
    from reports.page import render_report

    raw = compose_plain(
        [
            f"hw={hw}",
            f"strategy=[{','.join(strategies)}]",
            f"seeds={list(seeds)}",
            f"budget.evaluations={evaluations}",
            *([f"space={space}"] if isinstance(space, str) else []),
            *overrides,
        ]
    )
    raw |= {"study": name, "run_dir": str(run_dir), "task": {"name": name}}
    if not isinstance(space, str):
        raw["space"] = dict(space)
    task = task_from(model, calibration, search, test, name=name)
    plan = make_plan(Settings.from_dict(raw), task=task)
    outcome = run_study(plan, raw, "search.api.search(...)")
    return SearchResult(
        outcome.run_dir, render_report(outcome.run_dir), outcome.table, outcome.front
    )


def compose_plain(overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved configuration for command-line style overrides, as plain data.

    Raises:
        UsageError: an override that Hydra refuses.
    """
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    from search.run import plain, readable

    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("conf", version_base="1.3"):
            return plain(compose("search", overrides=list(overrides)))
    except HydraException as error:
        raise readable(error) from error
    except ValueError as error:
        raise UsageError(str(error)) from error
