"""The recipes of docs/clusters run as written, with stand-ins for what only a cluster has."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from search.records import read_journals
from search.settings import Settings
from tests.support.processes import LIMIT_S, finished

DOCS = Path(__file__).parents[1] / "docs"
SCRIPTS = sorted((DOCS / "clusters").glob("*.sh"))
SCONTROL = """#!/bin/bash
for _ in $(seq "$SLURM_NNODES"); do hostname -i | cut -d' ' -f1; done
"""
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do shift; done
exec "$@"
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_valid_and_says_how_to_submit_it(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    assert f"sbatch docs/clusters/{script.name} " in text
    assert "#SBATCH --nodes=" in text
    assert "RAY_AUTH_TOKEN" in text
    assert script.stat().st_mode & stat.S_IXUSR


def test_the_manifest_is_a_ray_job_that_searches():
    job = yaml.safe_load((DOCS / "clusters" / "kuberay.yaml").read_text())
    assert job["kind"] == "RayJob"
    assert job["spec"]["entrypoint"].startswith("bitfront-search ")
    groups = [
        job["spec"]["rayClusterSpec"]["headGroupSpec"],
        *job["spec"]["rayClusterSpec"]["workerGroupSpecs"],
    ]
    for group in groups:
        pod = group["template"]["spec"]
        claims = {item["name"]: item["persistentVolumeClaim"] for item in pod["volumes"]}
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == set(claims)


def test_settings_named_in_the_docs_exist():
    from search.api import compose_plain

    text = (DOCS / "clusters.md").read_text()
    names = set(re.findall(r"runner\.(\w+)", text))
    known = compose_plain([])["runner"]
    assert names <= set(known)
    Settings.from_dict(compose_plain(["runner.retries=3", "runner.workers=1"]))


@pytest.fixture
def slurm(tmp_path):
    """A job's environment: ``srun`` and ``scontrol`` of one machine that plays all nodes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    python = f'#!/bin/bash\nexec {sys.executable} "$@"\n'
    search = f'#!/bin/bash\nexec {sys.executable} -m search.run "$@"\n'
    ray = f'#!/bin/bash\nexec {Path(sys.executable).parent / "ray"} "$@"\n'
    tools = {"scontrol": SCONTROL, "srun": SRUN, "python": python, "bitfront-search": search}
    for name, text in {**tools, "ray": ray}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(DOCS.parent),
        "SLURM_JOB_NODELIST": "this",
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_CPUS_PER_TASK": "1",
        "START_WITHIN_S": str(round(LIMIT_S)),
    }


@pytest.mark.heavy
def test_the_script_for_shared_nodes_runs_a_study_on_two(slurm, tmp_path):
    words = ["task.width=2", "task.epochs=1", "strategy=[random,nsga2]", "budget.evaluations=6"]
    command = ["bash", str(DOCS / "clusters" / "slurm_shared.sh"), *words, "study=shared"]
    done = finished(command, cwd=tmp_path, env={**slurm, "SLURM_NNODES": "2"})
    assert done.returncode == 0, done.stderr
    assert "study shared   17 candidates (17 ok)" in done.stdout
    lines = read_journals(tmp_path / "runs" / "shared" / "trials")
    assert {line.strategy for line in lines} == {"baseline", "random", "nsga2"}
    left = subprocess.run(["pgrep", "-f", f"ray-{os.getpid()}-"], capture_output=True, check=False)
    assert left.stdout == b"", "the script stops what it started"
