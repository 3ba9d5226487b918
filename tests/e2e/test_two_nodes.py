"""A study on a real two-node cluster of Ray: both nodes work, one is killed, nothing is lost.

The nodes are two ``ray start`` process trees on loopback. Storage that a node does not share is
made with a mount namespace of its own, where this user may have one.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from search.benches.faults import audit, candidates, is_trial
from search.benches.nodes import local_cluster
from search.records import read_journals
from tests.e2e.conftest import read
from tests.support.processes import answer, started, wait_until

ROOT = Path(__file__).parents[2]
BUDGET = 300  # far more than a trial has when the other one begins, on a loaded machine too
WORDS = (
    *("task.width=2", "task.epochs=1", "strategy=[random,nsga2]", f"budget.evaluations={BUDGET}"),
    *("study=nodes", "run_dir=run", "runner.ledger=ledger"),
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    with local_cluster(2) as found:
        yield found


@pytest.fixture
def start(cluster):
    """Starts a command of the project with the cluster's token; ends it with the test."""
    with ExitStack() as running:

        def run(folder, *words, token=True):
            folder.mkdir(exist_ok=True)
            own = cluster.environment if token else {}
            environment = {**os.environ, "PYTHONPATH": str(ROOT), **own}
            command = [sys.executable, *words]
            return running.enter_context(started(command, cwd=folder, env=environment))

        yield run


def trial_processes(node):
    return {item.pid for item in node.processes() if is_trial(item)}


def per_process(ledger):
    """Evaluations by process id: each trial process writes a file of its own."""
    found = Counter()
    for path in ledger.glob("[nr]*.txt"):
        found[int(path.stem.rsplit("-", 1)[1])] += path.read_bytes().count(b"\n")
    return found


@pytest.mark.heavy
def test_a_study_uses_both_nodes_and_survives_the_death_of_one(cluster, start, tmp_path):
    alone = start(tmp_path / "alone", "-m", "search.run", *WORDS, "runner=local")
    _, err = answer(alone)
    assert alone.returncode == 0, err
    expected = candidates(tmp_path / "alone" / "run")

    folder = tmp_path / "both"
    study = start(folder, "-m", "search.run", *WORDS, f"runner.address={cluster.address}")
    ledger = folder / "ledger"
    wait_until(lambda: len([n for n in per_process(ledger).values() if n >= 20]) == 2, study)
    writers = set(per_process(ledger))
    lost = cluster.nodes.pop()
    on_lost, on_head = writers & trial_processes(lost), writers & trial_processes(cluster.nodes[0])
    assert on_lost and on_head, "each node holds one of the two trials"
    lost.kill()
    before = per_process(ledger)
    _, err = answer(study)

    assert study.returncode == 0, err
    assert "Traceback" not in err
    found = audit(folder, expected, allowed=1)
    assert (found.lost, found.repeated, found.different, found.corrupt) == (0, 0, 0, 0)
    assert found.twice <= 1
    after = per_process(ledger)
    assert all(after[pid] == before[pid] for pid in on_lost), "the lost node is really gone"
    lines = read_journals(folder / "run" / "trials")
    attempts = {(line.strategy, line.incarnation) for line in lines} - {("baseline", "")}
    assert len([name for name, _ in attempts if name != "baseline"]) == 3, "one trial began again"
    assert sum(after.values()) == 2 * BUDGET + found.twice
    assert not (folder / "run" / ".tune").exists()
    assert read(folder / "run" / "status.json")["state"] == "finished"


def test_workers_run_the_code_of_the_driver(cluster, start, tmp_path):
    script = (
        "import json, sys; from pathlib import Path\n"
        "from search.runner import cluster; from search.settings import RunnerSettings\n"
        "cluster.connect(RunnerSettings(address=sys.argv[1]))\n"
        "import ray\n"
        "def place(name):\n"
        "    import importlib\n"
        "    return importlib.import_module(name).__file__\n"
        "look = ray.remote(num_cpus=0)(place)\n"
        "print(json.dumps(ray.get([look.remote(name) for name in cluster.PACKAGES])))\n"
    )
    done = start(tmp_path / "code", "-c", script, cluster.address)
    out, err = answer(done)
    assert done.returncode == 0, err
    places = json.loads(out)
    assert len(places) == 6
    assert all("runtime_resources" in place for place in places), places


def test_a_private_ray_does_not_join_a_cluster_that_runs_here(cluster, start, tmp_path):
    script = (
        "from search.runner import cluster; from search.settings import RunnerSettings\n"
        "import ray\n"
        "with cluster.environment(): cluster.connect(RunnerSettings(workers=1))\n"
        "print(ray.get_runtime_context().gcs_address, len(ray.nodes()))\n"
    )
    done = start(tmp_path / "own", "-c", script)
    out, err = answer(done)
    assert done.returncode == 0, err
    address, nodes = out.split()
    assert address.rpartition(":")[2] != cluster.address.rpartition(":")[2]
    assert nodes == "1"


@pytest.mark.heavy
def test_without_the_token_the_cluster_is_not_joined(cluster, start, tmp_path):
    folder = tmp_path / "stranger"
    study = start(
        folder, "-m", "search.run", *WORDS, f"runner.address={cluster.address}", token=False
    )
    _, err = answer(study)
    assert study.returncode == 2
    assert "cannot be joined" in err
    assert "RAY_AUTH_TOKEN" in err
    assert "Traceback" not in err
    assert not list((folder / "run" / "trials").glob("*"))


def test_more_trials_than_the_cluster_holds_are_refused(cluster, start, tmp_path):
    words = [*WORDS, f"runner.address={cluster.address}", "runner.workers=9"]
    study = start(tmp_path / "many", "-m", "search.run", *words)
    _, err = answer(study)
    assert study.returncode == 2
    assert "9 trials of 1 CPUs are asked for, the cluster has" in err


def may_unshare():
    done = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode == 0


@pytest.mark.skipif(not may_unshare(), reason="this user may not make a mount namespace")
def test_a_node_that_does_not_see_the_run_directory_is_named(cluster, start, tmp_path):
    folder = tmp_path / "unshared"
    folder.mkdir()
    hidden = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {folder} && exec "$@"', "-"]
    node = cluster.add(*hidden)
    try:
        study = start(folder, "-m", "search.run", *WORDS, f"runner.address={cluster.address}")
        _, err = answer(study)
    finally:
        cluster.nodes.remove(node)
        node.kill()
    assert study.returncode == 4
    assert re.search(r"1 of \d nodes do not see the run directory", err), err
    assert "run_dir=PATH" in err
    assert "Traceback" not in err
