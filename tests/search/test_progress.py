import io
import re

import pytest

from search import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_pipe_gets_a_plain_line_every_30_seconds_and_the_last_one(clock):
    stream = io.StringIO()
    bar = progress.Bar("train", stream)
    for done in range(1, 10):
        clock[0] += 10
        bar(done, 10, "epochs")
    bar(10, 10, "epochs")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert "\x1b" not in stream.getvalue()
    assert lines[0] == "train: 3/10 epochs (30 s, 70 s left)"
    assert lines[-1].startswith("train: 10/10 epochs")


def test_a_terminal_gets_a_bar_that_ends_with_a_newline(clock, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    bar = progress.Bar("train", stream)
    clock[0] += 1
    bar(1, 2)
    bar(2, 2)
    assert re.search(r"\[#{12}\.{12}\] train: 1/2", stream.getvalue())
    assert stream.getvalue().endswith("\n")


def test_no_color_means_plain_lines_on_a_terminal_too(clock, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    progress.Bar("train", stream)(2, 2)
    assert "\x1b" not in stream.getvalue()
