"""The lock of a run directory: live holders keep it, dead ones do not, halves are removed."""

import json
import os
import platform
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import psutil
import pytest

from quant.errors import DataError
from search import lock as module
from search.lock import lock
from tests.support.processes import LIMIT_S, started


def held(path, **changes):
    parent = psutil.Process(os.getppid())
    data = {"pid": parent.pid, "host": platform.node(), "started": parent.create_time()}
    (path / ".lock").write_text(json.dumps(data | changes))


def test_a_live_holder_keeps_it_and_is_named(tmp_path):
    held(tmp_path)
    with pytest.raises(DataError) as caught, lock(tmp_path):
        pass
    assert f"in use by process {os.getppid()} on {platform.node()}" in str(caught.value)
    assert caught.value.exit_code == 4
    assert [item.name for item in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    "changes",
    [{"pid": 2**22 + 1}, {"started": 1.0}],
    ids=["no such process", "its id is another process now"],
)
def test_a_dead_holder_does_not(tmp_path, changes):
    held(tmp_path, **changes)
    with lock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("age", "free"), [(10.0, False), (301.0, True)])
def test_a_holder_on_another_host_is_judged_by_its_last_touch(tmp_path, age, free):
    held(tmp_path, host="elsewhere")
    then = time.time() - age
    os.utime(tmp_path / ".lock", (then, then))
    if free:
        with lock(tmp_path):
            pass
        return
    with pytest.raises(DataError, match="on elsewhere"), lock(tmp_path):
        pass


def test_a_holder_touches_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT_S", 0.01)
    with lock(tmp_path):
        path = tmp_path / ".lock"
        os.utime(path, (1.0, 1.0))
        begun = time.monotonic()
        while path.stat().st_mtime == 1.0 and time.monotonic() - begun < LIMIT_S:
            time.sleep(0.01)
        assert path.stat().st_mtime > 1.0


@pytest.mark.parametrize("text", ["", "12", "{", "[]", '{"pid": 1}'])
def test_an_unreadable_lock_is_nobodys(tmp_path, text):
    (tmp_path / ".lock").write_text(text)
    with lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_of_many_at_once_one_gets_in(tmp_path):
    held(tmp_path, pid=2**22 + 1)
    script = (
        "import sys; from pathlib import Path\n"
        "from quant.errors import DataError; from search.lock import lock\n"
        "try:\n"
        "    with lock(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()\n"
        "except DataError: print('out')\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with ExitStack() as stack:
        four = [stack.enter_context(started(command, stdin=subprocess.PIPE)) for _ in range(4)]
        # Who is in stays there until every one has answered.
        answers = [process.stdout.readline().strip() for process in four]
    assert sorted(answers) == ["in", "out", "out", "out"]


def test_halves_of_killed_writers_go_and_hidden_files_of_people_stay(tmp_path):
    (tmp_path / "policies").mkdir()
    halves = [".manifest.json.x7_a", ".trials.parquet.4711", "policies/.ab.json.k2", ".seen-12ab"]
    kept = [".gitignore", ".notes.txt", "front.json", "policies/ab.json", ".hidden.json"]
    for name in halves + kept:
        (tmp_path / name).write_text("")
    with lock(tmp_path):
        assert threading.active_count() > 1
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(kept)
