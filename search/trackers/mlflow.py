"""Trials as MLflow runs in an experiment of the study's name."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from search.trackers.base import Record, Tracker

METRICS = ("ce", "kl", "accuracy")
BATCH = 1000
"""Metrics per request, MLflow's limit."""
TRIAL, LOGGED = "bitfront.trial", "bitfront.candidates"


class MlflowTracker(Tracker):
    """One MLflow run per trial; a resumed study goes on in its runs.

    Args:
        uri: tracking URI: ``sqlite:///FILE`` or a server.
    """

    needs = ("mlflow",)

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def write(self, record: Record) -> str:
        """See :class:`Tracker`."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self._uri)
        found = client.get_experiment_by_name(record.study)
        experiment = (
            found.experiment_id if found is not None else client.create_experiment(record.study)
        )
        for trial, rows in record.trials():
            self._trial(client, experiment, trial, rows, record)
        return self._uri.rpartition("@")[2]

    def _trial(
        self, client: Any, experiment: str, trial: str, rows: pd.DataFrame, record: Record
    ) -> None:
        from mlflow.entities import Metric, Param

        runs = client.search_runs([experiment], f"tags.`{TRIAL}` = '{trial}'", max_results=1)
        if runs:
            (run,) = runs
        else:
            tags = {TRIAL: trial, "mlflow.runName": trial}
            run = client.create_run(experiment, tags=tags)
            first = rows.iloc[0]
            params = [Param("strategy", first["strategy"]), Param("seed", str(first["seed"]))]
            params.append(Param("config_hash", str(record.manifest.get("config_hash", ""))))
            client.log_batch(run.info.run_id, params=params)
        # Candidates are counted, not compared: the order within a trial never changes.
        new = rows.iloc[int(run.data.tags.get(LOGGED, 0)) :]
        metrics = [
            Metric(name, float(row[name]), int(1000 * _time(row)), int(row["seq"]))
            for row in new.to_dict("records")
            for name in dict.fromkeys([*METRICS, *record.objectives])
            if math.isfinite(row[name])
        ]
        for start in range(0, len(metrics), BATCH):
            client.log_batch(run.info.run_id, metrics=metrics[start : start + BATCH])
        client.set_tag(run.info.run_id, LOGGED, str(len(rows)))
        client.set_terminated(run.info.run_id, "FINISHED")


def _time(row: Any) -> float:
    """Seconds since 1970, 0 where a journal of an early version has none."""
    return float(row["unix_s"]) if math.isfinite(row["unix_s"]) else 0.0
