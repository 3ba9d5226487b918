"""Trials in parallel under Ray Tune: one Tune trial is one strategy run with one seed.

A trial per candidate would cost 40 to 1000 times the evaluation; a trial per strategy costs
about 1 %. Weights and data go into the object store once, as read-only arrays. Journals, not
Tune's checkpoints, are the record.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from quant.errors import UsageError
from search.runner.base import Job, Shared, StopFlag, run_job

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
STORE_MARGIN_BYTES = 128 * 2**20


def run_jobs(
    jobs: Sequence[Job],
    shared: Shared,
    arrays: Mapping[str, np.ndarray],
    stop: StopFlag,
    *,
    workers: int,
    address: str = "local",
) -> dict[str, str]:
    """Runs jobs in parallel; returns ``{trial: error}`` of those that raised.

    Args:
        jobs: one Tune trial each.
        shared: see :class:`Shared`.
        arrays: weights and data by name, put into the object store once.
        stop: when set, running trials end after the candidate in hand.
        workers: trials at the same time (a private Ray gets that many CPUs).
        address: ``"local"`` starts a private Ray; anything else joins that cluster.

    Raises:
        UsageError: no cluster answers at ``address``.
    """
    with _environment(), tempfile.TemporaryDirectory(prefix="bitfront-tune-") as storage:
        import ray
        from ray import tune

        size = sum(array.nbytes for array in arrays.values())
        _start(ray, workers, address, size)
        # Ray's start replaces the handlers of SIGINT and SIGTERM; ours end a study in order.
        stop.install()
        stop_file = os.path.join(storage, "stop")  # noqa: PTH118 - crosses to workers as text
        with _announce(stop, stop_file):
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(
                        _trainable,
                        jobs=list(jobs),
                        shared=shared,
                        arrays=dict(arrays),
                        stop_file=stop_file,
                    ),
                    {"cpu": 1},
                ),
                param_space={"index": tune.grid_search(list(range(len(jobs))))},
                tune_config=tune.TuneConfig(
                    reuse_actors=True,
                    trial_name_creator=lambda trial: _name(jobs[trial.config["index"]]),
                    trial_dirname_creator=lambda trial: f"trial-{trial.config['index']}",
                ),
                run_config=tune.RunConfig(
                    storage_path=storage,
                    name="study",
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=1),
                ),
            )
            results = tuner.fit()
    return {
        _name(jobs[index]): str(results[index].error).strip().splitlines()[-1]
        for index in range(len(jobs))
        if results[index].error is not None
    }


def shutdown() -> None:
    """Stops a Ray started here, if any."""
    import ray

    if ray.is_initialized():
        ray.shutdown()


def _trainable(
    config: Mapping[str, Any],
    jobs: Sequence[Job],
    shared: Shared,
    arrays: Mapping[str, np.ndarray],
    stop_file: str,
) -> None:
    from ray import tune

    count = run_job(jobs[config["index"]], shared, arrays, lambda: os.path.exists(stop_file))  # noqa: PTH110
    tune.report({"candidates": count})


def _name(job: Job) -> str:
    return f"{job.strategy}-{job.seed}"


def _start(ray: Any, workers: int, address: str, size: int) -> None:
    if ray.is_initialized():
        return
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        # A bare init would join any cluster that happens to run on this machine.
        ray.init(
            address="local",
            num_cpus=workers,
            include_dashboard=False,
            object_store_memory=size + STORE_MARGIN_BYTES,
            **quiet,
        )
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError) as cause:
        raise UsageError(
            f"no Ray cluster answers at '{address}'",
            where="runner.address",
            expected="'local', or host:port of a running cluster",
            fix=str(cause).splitlines()[0],
        ) from cause


@contextmanager
def _environment() -> Iterator[None]:
    """Settings Ray reads at import and start; put back afterwards."""
    before = {name: os.environ.get(name) for name in QUIET}
    os.environ.update(QUIET)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _announce(stop: StopFlag, path: str) -> Iterator[None]:
    """Makes a stop visible to workers, which share no memory with this process."""
    import threading

    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            if stop():
                open(path, "wb").close()  # noqa: PTH123
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
