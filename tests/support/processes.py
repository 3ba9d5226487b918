"""Commands of the project as processes: limits that load does not reach, whole groups ended."""

import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress

LIMIT_S = 900.0
"""For whatever should take seconds: only what hangs takes so long, on however busy a machine."""


@contextmanager
def started(command, **options):
    """A process in a group of its own, with captured text output; the group ends with the body."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, start_new_session=True, **{**pipes, **options})
    try:
        yield process
    finally:
        end(process)


def end(process):
    """Kills a process and everything in its group, and closes its pipes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            pipe.close()


def answer(process, limit_s=LIMIT_S):
    """``(stdout, stderr)`` of a process that is left to end by itself."""
    return process.communicate(timeout=limit_s)


def finished(command, **options):
    """Runs a command to its end; a ``CompletedProcess`` with text output."""
    with started(command, **options) as process:
        out, err = answer(process)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def wait_until(true, process, limit_s=LIMIT_S, every_s=0.02):
    """Polls until ``true()`` while the process lives."""
    begun = time.monotonic()
    while time.monotonic() - begun < limit_s:
        if true():
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(every_s)
    raise AssertionError(f"it did not happen within {limit_s:g} s")
