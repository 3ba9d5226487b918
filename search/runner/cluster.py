"""Joining a Ray: a private one on this machine, or the cluster a user named, never another.

What can be wrong with either is found before time is spent and said in one message.
"""

from __future__ import annotations

import logging
import math
import os
import re
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from quant.errors import DataError, UsageError

if TYPE_CHECKING:
    from search.settings import RunnerSettings

LOCAL = "local"
STORE_MARGIN_BYTES = 128 * 2**20
ANSWER_WITHIN_S = 5.0
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
PACKAGES = ("quant", "spaces", "hw_profiles", "search", "reports", "conf")
"""What is shipped to the nodes of a cluster, so that all run the code of the driver."""


def cores() -> int:
    """Cores this process may use; fewer than the machine's inside a batch job."""
    return len(os.sched_getaffinity(0))


def check_runner(runner: RunnerSettings) -> None:
    """Refuses what cannot run, without starting anything.

    Raises:
        UsageError: more trials, or CPUs of one, than cores, or an address nothing answers at.
    """
    if runner.address != LOCAL:
        _check_address(runner.address)
        return
    there = cores()
    if runner.cpus is not None and runner.cpus > there:
        raise UsageError(
            f"a trial asks for {runner.cpus:g} CPUs, this process may use {there}",
            where="runner.cpus",
            expected=f"at most {there}",
            fix="ask for fewer, or runner.address=HOST:PORT of a cluster",
        )
    if runner.workers and runner.workers * max(1, runner.trial_cpus) > there:
        raise UsageError(
            f"runner.workers is {runner.workers}, each with {max(1, runner.trial_cpus):g} CPUs; "
            f"this process may use {there}",
            where="runner.workers",
            expected=f"at most {workers(runner, there)}",
            fix="leave it out to use them all, or runner.address=HOST:PORT of a cluster",
        )
    if runner.evaluators * runner.threads > there:
        raise UsageError(
            f"runner.evaluators is {runner.evaluators}, this process may use {there} cores",
            where="runner.evaluators",
            expected=f"at most {there // runner.threads}",
        )


def workers(runner: RunnerSettings, there: int | None = None) -> int:
    """Trials at the same time on this machine: as set, or as many as its cores hold."""
    fit = int((there or cores()) // max(1, runner.trial_cpus))
    return (None if there else runner.workers) or max(1, fit)


def connect(runner: RunnerSettings, store_bytes: int = 0) -> None:
    """Starts a private Ray or joins the cluster of the settings; a second call does nothing.

    Args:
        runner: address, and for a private Ray what it has to hold.
        store_bytes: size of what trials share.

    Raises:
        UsageError: no cluster answers there, or it refuses this user.
    """
    import ray

    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if runner.address == LOCAL:
        evaluators = runner.evaluators * runner.threads
        # A bare init would join any cluster that happens to run on this machine.
        ray.init(
            address=LOCAL,
            num_cpus=max(math.ceil(workers(runner) * runner.trial_cpus), evaluators, 1),
            include_dashboard=False,
            object_store_memory=store_bytes + STORE_MARGIN_BYTES,
            **quiet,
        )
        return
    address = runner.address
    _check_address(address)
    root = Path(__file__).resolve().parents[2]
    modules = {"py_modules": [str(root / name) for name in PACKAGES]}
    try:
        ray.init(address=address, runtime_env=modules, **quiet)
    except (ConnectionError, ValueError, RuntimeError, PermissionError) as cause:
        raise _refused(address, cause) from cause


def shutdown() -> None:
    """Stops a Ray started here, or leaves the cluster joined; nothing otherwise."""
    import ray

    if ray.is_initialized():
        ray.shutdown()


def check_storage(run_dir: Path) -> None:
    """Every node of the cluster must see the run directory.

    Raises:
        DataError: one does not; names it.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0)(is_seen)
    with _token(run_dir) as (path, word):
        answers = {
            node["NodeID"]: look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(path, word)
            for node in ray.nodes()
            if node["Alive"]
        }
        blind = []
        for node, answer in answers.items():
            try:
                blind += [] if ray.get(answer) else [node]
            except ray.exceptions.RayError:
                continue  # it died since it was listed; nothing will run there
    refuse_blind(run_dir, blind, len(answers))


def refuse_blind(run_dir: Path, blind: Sequence[str], nodes: int) -> None:
    """Raises DataError when some of ``nodes`` do not see the run directory."""
    if blind:
        raise DataError(
            f"{len(blind)} of {nodes} nodes do not see the run directory "
            f"({', '.join(node[:8] for node in blind)})",
            where=str(run_dir),
            expected="a directory on storage that all nodes share and may write",
            fix="choose one with run_dir=PATH, the same path on every node",
        )


def is_seen(path: str, word: str) -> bool:
    """True when this node reads ``word`` in the file and may write beside it."""
    try:
        file = Path(path)
        return file.read_text() == word and os.access(file.parent, os.W_OK)
    except OSError:
        return False


def cluster_cpus() -> int:
    """CPUs of the Ray in use."""
    import ray

    return int(ray.cluster_resources().get("CPU", 0))


def check_cpus(workers: int, cpus: float) -> None:
    """Raises UsageError when so many trials never fit the cluster at the same time."""
    there = cluster_cpus()
    if workers * cpus > there:
        raise UsageError(
            f"{workers} trials of {cpus:g} CPUs are asked for, the cluster has {there}",
            where="runner.workers",
            expected=f"at most {int(there / cpus) if cpus else there}",
            fix="lower runner.workers, or leave it out to use all of the cluster",
        )


@contextmanager
def environment() -> Iterator[None]:
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
def _token(run_dir: Path) -> Iterator[tuple[str, str]]:
    word = uuid.uuid4().hex
    path = run_dir / f".seen-{word[:8]}"
    path.write_text(word)
    try:
        yield str(path), word
    finally:
        path.unlink(missing_ok=True)


def _check_address(address: str, dial: Callable[..., Any] = socket.create_connection) -> None:
    found = re.fullmatch(r"\[?([\w.:-]+?)\]?:(\d{1,5})", address)
    if "://" in address or not found or not 0 < int(found[2]) < 65536:
        raise UsageError(
            f"'{address}' is not the address of a cluster",
            where="runner.address",
            expected="'local' for a private Ray, or HOST:PORT of a running cluster",
            fix="name the cluster (a machine may run another user's); from outside of it, use "
            "ray job submit (docs/clusters.md)",
        )
    try:
        dial((found[1], int(found[2])), ANSWER_WITHIN_S).close()
    except OSError as cause:
        raise UsageError(
            f"nothing answers at '{address}': {cause.strerror or cause}",
            where="runner.address",
            expected="HOST:PORT as 'ray start --head' printed it, or 'local'",
            fix="start the cluster, check host and port, or leave runner.address out",
        ) from cause


def _refused(address: str, cause: Exception) -> UsageError:
    """Ray's refusal in our form; its reason is somewhere along the chain of causes."""
    text, link = "", cast("BaseException | None", cause)
    while link is not None:
        text += str(link)
        link = link.__cause__ or link.__context__
    fix = "check that it is a Ray cluster of the same Ray and Python versions"
    if "InvalidAuthToken" in text or "AuthenticationError" in text:
        fix = "set RAY_AUTH_MODE=token and put the cluster's token into RAY_AUTH_TOKEN"
    elif isinstance(cause, PermissionError):
        fix = "it runs as another user on this machine: start your own, or runner.address=local"
    return UsageError(
        f"the cluster at '{address}' cannot be joined: {str(cause).strip().splitlines()[0]}",
        where="runner.address",
        expected="a cluster this user may use",
        fix=fix,
    )
