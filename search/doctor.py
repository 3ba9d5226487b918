"""``bitfront-doctor``: is everything here that a study needs? Plain verdicts with fixes."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

OK, WARN, FAIL = "ok", "warn", "FAIL"
MIN_PYTHON = (3, 11)
MIN_MEMORY_GIB, MIN_DISK_GIB = 4.0, 2.0
NEEDED = (
    *("torch", "numpy", "ray", "optuna", "pulp", "highspy", "hydra-core", "omegaconf"),
    *(
        "pandas",
        "pyarrow",
        "plotly",
        "onnx",
        "onnxruntime",
        "scikit-learn",
        "safetensors",
        "gymnasium",
        "psutil",
        "rich",
    ),
)


@dataclass(frozen=True)
class Verdict:
    """One check.

    Attributes:
        name: what was looked at.
        state: ``"ok"``, ``"warn"`` or ``"FAIL"``.
        found: what was found.
        fix: what to do about it, empty when fine.
    """

    name: str
    state: str
    found: str
    fix: str = ""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with 1 when a check fails."""
    parser = argparse.ArgumentParser(
        prog="bitfront-doctor",
        description="Checks versions, machine, solvers, runtimes and tables, and evaluates once.",
    )
    parser.parse_args(argv)
    failed = False
    for check in CHECKS:
        for verdict in _guarded(check):
            failed |= verdict.state == FAIL
            fix = f"\n      fix: {verdict.fix}" if verdict.fix else ""
            print(f"{verdict.state:4s}  {verdict.name:18s} {verdict.found}{fix}", flush=True)
    sys.exit(1 if failed else 0)


def _guarded(check: Callable[[], Iterator[Verdict]]) -> Iterator[Verdict]:
    """A check that breaks is a failed verdict, not the end of the others."""
    try:
        yield from check()
    except Exception as cause:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        yield Verdict(name, FAIL, f"{type(cause).__name__}: {cause}", "make setup")


def check_python() -> Iterator[Verdict]:
    """Interpreter version."""
    fine = sys.version_info >= MIN_PYTHON
    wanted = ".".join(map(str, MIN_PYTHON))
    yield Verdict(
        "python",
        OK if fine else FAIL,
        platform.python_version(),
        "" if fine else f"use Python {wanted} or later",
    )


def check_packages() -> Iterator[Verdict]:
    """Installed versions, and that no other distribution shadows our package names."""
    from quant.errors import BitfrontError
    from search.run import check_own_packages

    found = {}
    for name in NEEDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Verdict("packages", FAIL, f"{name} is missing", "make setup")
    listed = ", ".join(f"{name} {version}" for name, version in found.items())
    yield Verdict("packages", OK, listed)
    try:
        check_own_packages()
    except BitfrontError as error:
        yield Verdict("package names", FAIL, error.what, error.fix)


def check_machine() -> Iterator[Verdict]:
    """Cores, memory and disk."""
    from search.runner.cluster import cores

    yield Verdict("cores", OK, f"{cores()}: that many trials run at the same time")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield _at_least("memory", memory, MIN_MEMORY_GIB, "GiB", "use runner=local or fewer workers")
    disk = shutil.disk_usage(Path.cwd()).free / 2**30
    yield _at_least("disk", disk, MIN_DISK_GIB, "GiB free here", "free space, or run_dir=PATH")


def _at_least(name: str, value: float, least: float, unit: str, fix: str) -> Verdict:
    fine = value >= least
    return Verdict(name, OK if fine else WARN, f"{value:.1f} {unit}", "" if fine else fix)


def check_ray() -> Iterator[Verdict]:
    """A private Ray starts, answers and stops."""
    import ray

    from search.runner import cluster
    from search.settings import RunnerSettings

    begun = time.perf_counter()
    with cluster.environment():
        cluster.connect(RunnerSettings(workers=1))
        try:
            answer = ray.get(ray.remote(num_cpus=1)(lambda: os.getpid()).remote(), timeout=300)
        finally:
            cluster.shutdown()
    fine = answer != os.getpid()
    seconds = time.perf_counter() - begun
    yield Verdict("ray", OK if fine else FAIL, f"a worker answers, {seconds:.1f} s with start")


def check_solvers() -> Iterator[Verdict]:
    """Both integer-program solvers solve a small program."""
    import numpy as np

    from search.solvers.ilp import SOLVERS, Limit, solve

    for solver in SOLVERS:
        cost = np.array([[1.0, 2.0]])
        solution = solve(np.array([[1.0, 0.0]]), [Limit(cost, 2.0)], solver)
        fine = solution.codes.tolist() == [1]
        yield Verdict(f"solver {solver}", OK if fine else FAIL, f"{solution.seconds:.2f} s")


def check_table() -> Iterator[Verdict]:
    """Runtime, and tables of this device in the cache."""
    import onnxruntime

    from hw_profiles.device import this_device
    from hw_profiles.store import cache_dir

    device = this_device()
    flags = ", ".join(device.cpu_flags) or "no vector extensions known"
    yield Verdict("device", OK, f"{device.name} ({flags})")
    yield Verdict("runtime", OK, f"onnxruntime {onnxruntime.__version__}")
    tables = sorted((cache_dir() / "profiles").glob("*.json"))
    yield Verdict(
        "latency tables",
        OK if tables else WARN,
        f"{len(tables)} in the cache",
        "" if tables else "bitfront-measure build; a search also measures what it needs",
    )


def check_browser() -> Iterator[Verdict]:
    """Only pictures and browser tests need one."""
    path = shutil.which("chromium")
    yield Verdict(
        "browser",
        OK if path else WARN,
        "chromium is there" if path else "no chromium: reports open in any browser",
        "" if path else "Debian: apt-get install chromium (for browser tests only)",
    )


def check_evaluation() -> Iterator[Verdict]:
    """One quantized forward pass of a tiny network."""
    import torch
    from torch import nn

    from quant.method import Method
    from quant.model import QuantizedModel
    from spaces.choices import BASELINES

    begun = time.perf_counter()
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    data = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    quantized = QuantizedModel(model, ["0", "3"], Method(), [data])
    quantized.apply(dict.fromkeys(["0", "3"], BASELINES[1]))
    with torch.no_grad():
        fine = bool(torch.isfinite(quantized(data)).all())
    seconds = time.perf_counter() - begun
    yield Verdict("dry evaluation", OK if fine else FAIL, f"int8, {seconds:.1f} s with imports")


CHECKS: tuple[Callable[[], Iterator[Verdict]], ...] = (
    check_python,
    check_packages,
    check_machine,
    check_ray,
    check_solvers,
    check_table,
    check_browser,
    check_evaluation,
)

if __name__ == "__main__":
    main()
