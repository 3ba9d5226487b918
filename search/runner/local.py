"""Trials one after another in this process; the reference for every other runner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from search.runner.base import Job, Shared, StopFlag, run_job


def run_jobs(
    jobs: Sequence[Job], shared: Shared, arrays: Mapping[str, np.ndarray], stop: StopFlag
) -> dict[str, str]:
    """Runs every job; returns ``{trial: error}`` of those that raised."""
    errors = {}
    for job in jobs:
        if stop():
            break
        try:
            run_job(job, shared, arrays, stop)
        except Exception as cause:
            errors[f"{job.strategy}-{job.seed}"] = f"{type(cause).__name__}: {cause}"
    return errors
