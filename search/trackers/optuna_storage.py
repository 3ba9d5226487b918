"""A study as an Optuna study, so that optuna-dashboard and Optuna's own tools open it."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna

from quant.errors import UsageError
from search.trackers.base import Record, Tracker

DIRECTIONS = {
    False: optuna.study.StudyDirection.MINIMIZE,
    True: optuna.study.StudyDirection.MAXIMIZE,
}
SQLITE = "sqlite:///"
KEPT = ("strategy", "seed", "seq", "policy_id", "quality_key", "tag", "error")
NUMBERS = ("ce", "kl", "accuracy", "n", "standard_error", "eval_s", "wall_s", "n_true")


class OptunaTracker(Tracker):
    """One Optuna study per study; parameters are layers, values the objectives.

    Args:
        storage: ``sqlite:///FILE`` (relative to the working directory; written anew, in one
            step), or the URL of a server, to which candidates that it lacks are added.
    """

    def __init__(self, storage: str) -> None:
        if "://" not in storage:
            raise UsageError(
                f"storage is '{storage}'",
                where="tracker.optuna.storage",
                expected="sqlite:///FILE or the URL of a database server",
            )
        self._storage = storage

    def write(self, record: Record) -> str:
        """See :class:`Tracker`."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if not self._storage.startswith(SQLITE):
            _fill(optuna.storages.RDBStorage(self._storage), record)
            return self._storage.rpartition("@")[2]
        path = Path(self._storage.removeprefix(SQLITE))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            draft = Path(folder) / path.name
            storage = optuna.storages.RDBStorage(f"{SQLITE}{draft}")
            _without_syncs(storage)
            _fill(storage, record)
            storage.engine.dispose()
            draft.replace(path)
        return str(path)


def _without_syncs(storage: optuna.storages.RDBStorage) -> None:
    """A draft nobody reads needs no sync per row: 85 ms each would be minutes in all."""
    from sqlalchemy import event

    def relax(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA journal_mode=MEMORY")

    event.listen(storage.engine, "connect", relax)
    storage.engine.dispose()


def _fill(storage: optuna.storages.BaseStorage, record: Record) -> None:
    study = optuna.create_study(
        storage=storage,
        study_name=record.study,
        directions=[DIRECTIONS[flag] for flag in record.maximised()],
        load_if_exists=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(record.objectives))
    for name in ("command", "config_hash", "started"):
        study.set_user_attr(name, record.manifest.get(name, ""))
    there = {_identity(trial.user_attrs) for trial in study.get_trials(deepcopy=False)}
    spaces = {
        group.name: optuna.distributions.CategoricalDistribution(
            [choice.text for choice in group.all_choices]
        )
        for group in record.space.groups
    }
    for row in record.table.sort_values(["unix_s", "strategy", "seed", "seq"]).to_dict("records"):
        if _identity(row) not in there:
            study.add_trial(_trial(row, record, spaces))


def _identity(row: Any) -> tuple[str, int, str]:
    return row["strategy"], int(row["seed"]), row["quality_key"]


def _trial(
    row: Any, record: Record, spaces: Mapping[str, optuna.distributions.BaseDistribution]
) -> optuna.trial.FrozenTrial:
    fine = row["status"] == "ok"
    trial = optuna.trial.create_trial(
        state=optuna.trial.TrialState.COMPLETE if fine else optuna.trial.TrialState.FAIL,
        params=record.choices(row["codes"]),
        distributions=dict(spaces),
        values=[float(row[name]) for name in record.objectives] if fine else None,
        user_attrs={name: row[name] for name in KEPT if row[name] != ""}
        | {name: float(row[name]) for name in NUMBERS if row[name] == row[name]},
    )
    if row["unix_s"] == row["unix_s"]:
        trial.datetime_complete = datetime.fromtimestamp(row["unix_s"])
        trial.datetime_start = trial.datetime_complete - timedelta(seconds=row["eval_s"])
    return trial
