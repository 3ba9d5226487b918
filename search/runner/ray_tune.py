"""Trials in parallel under Ray Tune: one Tune trial is one strategy run with one seed.

A trial per candidate would cost 40 to 1000 times the evaluation; a trial per strategy costs
about 1 %. Weights and data go into the object store once, as read-only arrays. Journals, not
Tune's checkpoints, are the record.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from quant.errors import DataError
from search.progress import repeated
from search.runner import cluster, pool
from search.runner.base import Job, Shared, StopFlag, build_evaluator, run_job
from search.settings import RunnerSettings

STOP_EVERY_S = 0.2
SCRATCH = ".tune"
"""Tune's own files in a run directory; every node of a cluster needs them."""


def run_jobs(
    jobs: Sequence[Job],
    shared: Shared,
    arrays: Mapping[str, np.ndarray],
    stop: StopFlag,
    runner: RunnerSettings,
    run_dir: Path,
) -> dict[str, str]:
    """Runs jobs in parallel; returns ``{trial: error}`` of those that raised.

    Args:
        jobs: one Tune trial each.
        shared: see :class:`Shared`.
        arrays: weights and data by name, put into the object store once.
        stop: when set, running trials end after the candidate in hand.
        runner: workers, resources and address.
        run_dir: absolute; on a cluster on storage that all nodes share.

    Raises:
        UsageError: the cluster cannot be joined or is too small.
        DataError: a node of it does not see the run directory, or Ray itself died.
    """
    with cluster.environment(), _scratch(run_dir) as storage:
        size = sum(array.nbytes for array in arrays.values())
        prepare(runner, run_dir, size)
        # Ray's start replaces the handlers of SIGINT and SIGTERM; ours end a study in order.
        stop.install()
        stop_file = storage / "stop"
        with _announce(stop, stop_file), _evaluators(runner, shared, arrays) as actors:
            return _fit(jobs, shared, arrays, runner, storage, stop_file, actors)


def prepare(runner: RunnerSettings, run_dir: Path, store_bytes: int = 0) -> None:
    """Starts or joins Ray, and checks that a cluster can run the study; cheap when done before.

    Raises:
        UsageError, DataError: see :func:`run_jobs`.
    """
    with cluster.environment():
        cluster.connect(runner, store_bytes)
        if runner.address != cluster.LOCAL:
            if runner.workers:
                cluster.check_cpus(runner.workers, runner.trial_cpus)
            cluster.check_storage(run_dir)


def _fit(
    jobs: Sequence[Job],
    shared: Shared,
    arrays: Mapping[str, np.ndarray],
    runner: RunnerSettings,
    storage: Path,
    stop_file: Path,
    actors: Sequence[Any],
) -> dict[str, str]:
    import ray
    from ray import tune
    from ray.tune.error import TuneError

    trainable = tune.with_parameters(
        _trainable,
        jobs=list(jobs),
        shared=shared,
        arrays=dict(arrays),
        stop_file=str(stop_file),
        actors=list(actors),
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": runner.trial_cpus, "gpu": runner.gpus}),
        param_space={"index": tune.grid_search(list(range(len(jobs))))},
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            max_concurrent_trials=_at_a_time(runner),
            trial_name_creator=lambda trial: _name(jobs[trial.config["index"]]),
            trial_dirname_creator=lambda trial: f"trial-{trial.config['index']}",
        ),
        run_config=tune.RunConfig(
            storage_path=str(storage),
            name="study",
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=runner.retries),
        ),
    )
    try:
        results = tuner.fit()
    except (ray.exceptions.RayError, TuneError) as cause:
        cluster.shutdown()
        raise DataError(
            f"Ray broke down: {str(cause).strip().splitlines()[0]}",
            where=f"runner.address={runner.address}",
            expected="a Ray that lives as long as the study",
            fix="run the same command again: it goes on where it stopped",
        ) from cause
    return {
        _name(jobs[index]): str(results[index].error).strip().splitlines()[-1]
        for index in range(len(jobs))
        if results[index].error is not None
    }


def _at_a_time(runner: RunnerSettings) -> int | None:
    """Trials at the same time; None leaves it to the CPUs of a cluster."""
    if runner.address == cluster.LOCAL:
        return cluster.workers(runner)
    return runner.workers or runner.evaluators or None


@contextmanager
def _evaluators(
    runner: RunnerSettings, shared: Shared, arrays: Mapping[str, np.ndarray]
) -> Iterator[list[Any]]:
    """The shared evaluators, ended with the study."""
    if not runner.evaluators:
        yield []
        return
    import ray

    # A restarted actor reads these again, so they live as long as the actors.
    common = ray.put(shared), ray.put(dict(arrays))
    actors = pool.start(runner.evaluators, runner.evaluator_cpus, build_evaluator, *common)
    try:
        yield actors
    finally:
        for actor in actors:
            ray.kill(actor)


def _trainable(
    config: Mapping[str, Any],
    jobs: Sequence[Job],
    shared: Shared,
    arrays: Mapping[str, np.ndarray],
    stop_file: str,
    actors: Sequence[Any],
) -> None:
    from ray import tune

    job = jobs[config["index"]]
    count = run_job(job, shared, arrays, lambda: os.path.exists(stop_file), actors)  # noqa: PTH110
    tune.report({"candidates": count})


def _name(job: Job) -> str:
    return f"{job.strategy}-{job.seed}"


@contextmanager
def _scratch(run_dir: Path) -> Iterator[Path]:
    """An empty directory for Tune; what a killed study left is removed."""
    path = run_dir / SCRATCH
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _announce(stop: StopFlag, path: Path) -> AbstractContextManager[None]:
    """Makes a stop visible to workers, which share no memory with this process."""

    def tell() -> None:
        if stop():
            path.touch()

    return repeated(tell, threading.Event(), STOP_EVERY_S)
