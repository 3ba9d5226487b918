"""A Ray cluster of several nodes on this machine, for benches and tests of lost nodes.

Each node is a ``ray start`` process tree of its own; killing one takes its workers along, as the
loss of a host does. The cluster asks for a token that only its starter knows.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

START_WITHIN_S = 300.0
STORE_BYTES = 100_000_000
QUICK_DEATH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
"""A lost node is noticed after about 3 s instead of 15."""


@dataclass
class Node:
    """One node: the ``ray start --block`` process and all below it."""

    process: subprocess.Popen[bytes]

    def processes(self) -> list[psutil.Process]:
        """The node's processes, parents first."""
        try:
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """Ends every process of the node at once (SIGKILL)."""
        kill_all(self.processes())
        self.process.wait()


@dataclass
class LocalCluster:
    """A head and further nodes of one CPU each.

    Attributes:
        address: ``host:port`` for ``runner.address``.
        environment: what drivers need in theirs (the token).
        nodes: the head first.
        folder: logs.
    """

    address: str
    environment: Mapping[str, str]
    folder: Path
    nodes: list[Node] = field(default_factory=list)

    def add(self, *prefix: str) -> Node:
        """Starts one more node; ``prefix`` is a command that runs the rest, such as unshare."""
        words = [f"--address={self.address}"] if self.nodes else self._head()
        command = [*prefix, str(Path(sys.executable).parent / "ray"), "start", *words, *COMMON]
        log = (self.folder / f"node{len(self.nodes)}.log").open("wb")
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **self.environment, **QUICK_DEATH},
            cwd="/",
            start_new_session=True,
        )
        node = Node(process)
        self.nodes.append(node)
        _wait_until_started(node, Path(log.name))
        return node

    def _head(self) -> list[str]:
        host, _, port = self.address.partition(":")
        return [
            "--head",
            f"--node-ip-address={host}",
            f"--port={port}",
            "--include-dashboard=false",
            f"--temp-dir={self.folder}",
        ]


COMMON = (
    "--num-cpus=1",
    "--node-ip-address=127.0.0.1",
    "--min-worker-port=0",
    "--max-worker-port=0",
    f"--object-store-memory={STORE_BYTES}",
    "--disable-usage-stats",
    "--block",
)


@contextmanager
def local_cluster(nodes: int = 2) -> Iterator[LocalCluster]:
    """Starts a cluster of ``nodes`` nodes on loopback and ends all of them afterwards.

    Raises:
        RuntimeError: a node did not start; the message ends with its log.
    """
    # Sockets have short paths only, so no directory of a caller's.
    folder = Path(tempfile.mkdtemp(prefix="bf-ray-"))
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    cluster = LocalCluster(f"127.0.0.1:{_free_port()}", environment, folder)
    try:
        for _ in range(nodes):
            cluster.add()
        yield cluster
    finally:
        for node in reversed(cluster.nodes):
            node.kill()
        shutil.rmtree(folder, ignore_errors=True)


def kill_all(processes: Sequence[psutil.Process]) -> None:
    """SIGKILL to all of them; those gone already are fine."""
    for process in processes:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=10)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _wait_until_started(node: Node, log: Path) -> None:
    begun = time.monotonic()
    while time.monotonic() - begun < START_WITHIN_S:
        if b"Ray runtime started" in log.read_bytes():
            return
        if node.process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"a Ray node did not start:\n{log.read_text()[-2000:]}")
