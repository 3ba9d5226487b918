"""Trials as TensorBoard runs: objectives against the number of evaluations."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from search.trackers.base import Record, Tracker

METRICS = ("ce", "kl", "accuracy")


class TensorboardTracker(Tracker):
    """One TensorBoard run per trial, written anew each time.

    Args:
        log_dir: directory for ``tensorboard --logdir``.
    """

    needs = ("tensorboardX",)

    def __init__(self, log_dir: str) -> None:
        self._log_dir = Path(log_dir)

    def write(self, record: Record) -> str:
        """See :class:`Tracker`."""
        from tensorboardX import SummaryWriter

        names = dict.fromkeys([*METRICS, *record.objectives])
        for trial, rows in record.trials():
            folder = self._log_dir / record.study / trial
            shutil.rmtree(folder, ignore_errors=True)
            with SummaryWriter(str(folder), write_to_disk=True) as writer:
                for row in rows.to_dict("records"):
                    for name in names:
                        if math.isfinite(row[name]):
                            time = row["unix_s"] if math.isfinite(row["unix_s"]) else None
                            writer.add_scalar(name, row[name], row["seq"], walltime=time)
        return str(self._log_dir)
