"""Studies killed at random moments: nothing evaluated is lost, nothing is done twice for long.

Every run starts a study, sends SIGKILL to its driver, to one of its trial workers or to a whole
node of a two-node cluster, and runs the same command again until it ends well. Moments lie within
the search; every other driver dies at any moment at all. A ledger that evaluators sync to disk
before they answer is then compared with the merged journals, and the candidates with those of a
study nobody disturbed.

Settings of this suite, next to those of bitfront-search:

* ``runs=30``: kills, in turn ``driver``, ``worker``, ``node``;
* ``kinds=[driver,worker,node]``: a part of them;
* ``seed=0``: of the moments.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import yaml

from quant.errors import DataError, UsageError, unknown
from search.benches.base import Figure, figure
from search.benches.nodes import LocalCluster, kill_all, local_cluster
from search.progress import say
from search.records import read_journal, read_journals
from search.runner.ledger import read_ledger

SUITE = "faults"
KINDS = ("driver", "worker", "node")
STUDY = (
    *("task.width=2", "task.epochs=1", "strategy=[random,greedy,nsga2]", "seeds=[0]"),
    *("budget.evaluations=60", "study=faults"),
)
"""A study whose candidates do not depend on time; two to four seconds of evaluations."""
COMPARED = (
    *("strategy", "seed", "seq", "codes", "quality_key", "status", "ce", "kl", "accuracy"),
    *("size_bytes", "latency_ms"),
)
TRIES, LIMIT_S = 3, 900.0
"""Only a study that hangs takes so long, on however busy a machine."""


@dataclass(frozen=True)
class Options:
    """What to kill, how often, and further settings of the study."""

    runs: int = 30
    kinds: tuple[str, ...] = KINDS
    seed: int = 0
    words: tuple[str, ...] = ()


def read(overrides: Sequence[str]) -> Options:
    """Options from command-line words; others go to the studies.

    Raises:
        UsageError: not a number, or an unknown kind.
    """
    found = Options()
    for word in overrides:
        key, _, text = word.partition("=")
        value = yaml.safe_load(text)
        if key == "kinds":
            kinds = tuple(value if isinstance(value, list) else [value])
            for kind in kinds:
                if kind not in KINDS:
                    raise unknown("kind", str(kind), KINDS, where="kinds")
            found = replace(found, kinds=kinds)
        elif key in ("runs", "seed"):
            if not isinstance(value, int) or value < (key == "runs"):
                raise UsageError(f"{key} is '{text}'", where=key, expected="a whole number")
            found = replace(found, runs=value) if key == "runs" else replace(found, seed=value)
        else:
            found = replace(found, words=(*found.words, word))
    return found


@dataclass(frozen=True)
class Audit:
    """What a disturbed study left.

    Attributes:
        kept: candidates in the merged journals.
        lost: evaluations of the ledger that the merged journals lack.
        repeated: candidates that the merged journals hold more than once.
        twice: evaluations made again.
        allowed: evaluations that may have been made again, one per killed trial worker.
        different: candidates that differ from those of the undisturbed study.
        corrupt: files that cannot be read, are half written or fail ``--check``.
        hit: whether the kill found a study that was still running.
    """

    kept: int
    lost: int
    repeated: int
    twice: int
    allowed: int
    different: int
    corrupt: int
    hit: bool = True


def run(options: Options) -> Iterator[Figure]:
    """Kills studies and yields, per kind, what was lost, repeated, different and corrupt."""
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory(prefix="bitfront-faults-") as folder, ExitStack() as stack:
        home = Path(folder)
        cluster = stack.enter_context(local_cluster(1)) if "node" in options.kinds else None
        studies = Studies(home, options.words, cluster)
        undisturbed, seconds = studies.undisturbed()
        audits: dict[str, list[Audit]] = {kind: [] for kind in options.kinds}
        for number in range(options.runs):
            kind = options.kinds[number % len(options.kinds)]
            audit = studies.disturbed(kind, number, rng, undisturbed, seconds)
            say(f"run {number + 1} of {options.runs}, {kind}: {audit}")
            audits[kind].append(audit)
    for kind, found in audits.items():
        yield from figures(kind, found)


def figures(kind: str, audits: Sequence[Audit]) -> Iterator[Figure]:
    """Sums over all runs of a kind; one bad run in a hundred must show."""
    case = f"{kind}@{len(audits)}"
    sums = {
        "lost": [audit.lost for audit in audits],
        "repeated": [audit.repeated for audit in audits],
        "twice_beyond_one_batch": [max(0, audit.twice - audit.allowed) for audit in audits],
        "different": [audit.different for audit in audits],
        "corrupt": [audit.corrupt for audit in audits],
    }
    for metric, values in sums.items():
        unit = "files" if metric == "corrupt" else "candidates"
        yield figure(SUITE, case, metric, [float(sum(values))], unit, bar=0.0)
    hits, amid = sum(audit.hit for audit in audits), sum(audit.allowed > 0 for audit in audits)
    yield figure(SUITE, case, "hit_a_running_study", [float(hits)], "kills", better="higher")
    yield figure(SUITE, case, "hit_a_running_trial", [float(amid)], "kills", better="higher")
    yield figure(SUITE, case, "twice", [float(audit.twice) for audit in audits], "candidates")
    yield figure(SUITE, case, "kept", [float(audit.kept) for audit in audits], "candidates")


@dataclass(frozen=True)
class Kill:
    """What was killed: ``hit`` when a study was still running, and how many trial workers."""

    hit: bool
    workers: int


@dataclass(frozen=True)
class Studies:
    """Starts studies in a folder and disturbs them."""

    home: Path
    words: tuple[str, ...]
    cluster: LocalCluster | None = None

    def undisturbed(self, *words: str, warm: bool = True) -> tuple[pd.DataFrame, float]:
        """Candidates of a study nobody disturbs, and how long it takes when all is cached."""
        for name in ("first", "undisturbed") if warm else ("undisturbed",):
            begun = time.monotonic()
            finish(self._start(name, *words), name)
        return candidates(self.home / "undisturbed" / "run"), time.monotonic() - begun

    def disturbed(
        self,
        kind: str,
        number: int,
        rng: np.random.Generator,
        undisturbed: pd.DataFrame,
        seconds: float,
    ) -> Audit:
        """One study, killed once at a random moment and brought to its end."""
        name = f"{kind}-{number}"
        folder = self.home / name
        on_cluster = kind == "node"
        process = self._start(name, on_cluster=on_cluster)
        anywhere = seconds if kind == "driver" and number % 2 else None
        killed = self._disturb(kind, process, folder, rng, len(undisturbed), anywhere)
        for _ in range(TRIES):
            if finish(process, name, check=False) == 0:
                break
            wait_for_orphans(folder)
            process = self._start(name, on_cluster=on_cluster)
        finish(process, name)
        found = replace(audit(folder, undisturbed, killed.workers), hit=killed.hit)
        shutil.rmtree(folder)
        return found

    def _start(self, name: str, *more: str, on_cluster: bool = False) -> subprocess.Popen[bytes]:
        folder = self.home / name
        folder.mkdir(exist_ok=True)
        words = [*STUDY, *self.words, *more, "run_dir=run", "runner.ledger=ledger"]
        words += [] if "runner=local" in more else ["runner.retries=3"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        if on_cluster:
            assert self.cluster is not None
            if len(self.cluster.nodes) < 2:
                self.cluster.add()
            words.append(f"runner.address={self.cluster.address}")
            environment |= self.cluster.environment
        with (folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "search.run", *words],
                cwd=folder, env=environment, stdout=log, stderr=log,
            )  # fmt: skip

    def _disturb(
        self,
        kind: str,
        process: subprocess.Popen[bytes],
        folder: Path,
        rng: np.random.Generator,
        total: int,
        anywhere: float | None,
    ) -> Kill:
        """Kills at a random moment.

        With ``anywhere`` any moment of so many seconds counts: imports, scores, the final
        front, the report; without it a moment of the search.
        """
        if anywhere is not None:
            time.sleep(float(rng.uniform(0, anywhere)))
        else:
            wait_for(folder / "ledger", int(rng.integers(1, int(0.8 * total))), process)
            time.sleep(float(rng.uniform(0, 0.05)))
        if kind != "node":
            workers = trial_workers(process.pid)
            if kind == "driver":
                # Not by psutil, whose wait would take the exit code away from the Popen object.
                hit = process.poll() is None
                process.kill()
                return Kill(hit, len(workers))
            picked = [workers[int(rng.integers(len(workers)))]] if workers else []
            kill_all(picked)
            return Kill(bool(picked), len(picked))
        assert self.cluster is not None
        node = self.cluster.nodes.pop()
        died = sum(is_trial(item) for item in node.processes())
        hit = process.poll() is None
        node.kill()
        return Kill(hit, died)


ROOT = Path(__file__).resolve().parents[2]
TRIAL = "ray::Implicit"
"""How Ray calls a process that runs a Tune function; its agents are ``ray::`` too."""


def is_trial(process: psutil.Process) -> bool:
    """True for a Ray worker process that holds a trial."""
    try:
        return str(process.name()).startswith(TRIAL)
    except psutil.NoSuchProcess:
        return False


def trial_workers(driver: int) -> list[psutil.Process]:
    """Trial workers below the driver of that process id; none when it has ended."""
    return [item for item in below(driver) if is_trial(item)]


def below(pid: int) -> list[psutil.Process]:
    """Descendants of a process; none when it has ended."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def wait_for(ledger: Path, lines: int, process: subprocess.Popen[bytes]) -> None:
    """Returns once the ledger holds so many lines, or the study has ended."""
    while process.poll() is None:
        if sum(path.read_bytes().count(b"\n") for path in ledger.glob("*.txt")) >= lines:
            return
        time.sleep(0.01)


def wait_for_orphans(folder: Path, limit_s: float = 30.0) -> None:
    """Returns once nothing below a killed study writes to its ledger any more."""
    before, begun = -1, time.monotonic()
    while time.monotonic() - begun < limit_s:
        size = sum(path.stat().st_size for path in (folder / "ledger").glob("*.txt"))
        if size == before:
            return
        before = size
        time.sleep(0.5)


def finish(process: subprocess.Popen[bytes], name: str, *, check: bool = True) -> int:
    """Waits for a study and returns its exit code; one that hangs is ended with all below it.

    Raises:
        DataError: it failed, or took too long.
    """
    try:
        code = process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        kill_all(below(process.pid))
        process.kill()
        code = process.wait()
    if check and code:
        raise DataError(f"study {name} ended with {code}", where=f"{name}/log.txt")
    return code


def candidates(run_dir: Path) -> pd.DataFrame:
    """What must not depend on a disturbance: candidates with qualities and costs, in order."""
    table = pd.read_parquet(run_dir / "trials.parquet")
    columns = [name for name in COMPARED if name in table]
    return table[columns].sort_values(["strategy", "seed", "seq"]).reset_index(drop=True)


def audit(folder: Path, undisturbed: pd.DataFrame, allowed: int) -> Audit:
    """Compares ledger, merged journals, final table and files of ``folder``.

    Args:
        folder: holds ``run`` and ``ledger``.
        undisturbed: from :func:`candidates`.
        allowed: trial workers that died.
    """
    run_dir = folder / "run"
    lines = read_journals(run_dir / "trials")
    kept = Counter((f"{line.strategy}-{line.seed}", line.result.quality_key) for line in lines)
    ledger = Counter(read_ledger(folder / "ledger"))
    table = candidates(run_dir)
    joined = table.merge(undisturbed, how="outer", indicator=True)
    return Audit(
        kept=len(lines),
        lost=sum(item not in kept for item in ledger),
        repeated=sum(kept.values()) - len(kept),
        twice=sum(ledger.values()) - len(ledger),
        allowed=allowed,
        different=int((joined["_merge"] != "both").sum()),
        corrupt=len(corrupt_files(run_dir)) + _failed_checks(run_dir),
    )


def corrupt_files(run_dir: Path) -> list[str]:
    """Files of a run that cannot be read to their end, and temporary ones left behind."""
    readers: Mapping[str, Any] = {
        ".json": lambda path: json.loads(path.read_text()),
        ".yaml": lambda path: yaml.safe_load(path.read_text()),
        ".parquet": pq.read_table,
        ".jsonl": lambda path: list(read_journal(path)),
        ".npz": lambda path: dict(np.load(path, allow_pickle=False)),
    }
    found = []
    for path in sorted(item for item in run_dir.rglob("*") if item.is_file()):
        try:
            readers.get(path.suffix, lambda _: None)(path)
            broken = path.name.startswith(".")
        except Exception:
            broken = True
        found += [path.name] if broken else []
    return found


def _failed_checks(run_dir: Path) -> int:
    """1 when ``bitfront-report --check`` finds a difference."""
    done = subprocess.run(
        [sys.executable, "-m", "reports.cli", str(run_dir), "--check"],
        capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return int(done.returncode != 0)
