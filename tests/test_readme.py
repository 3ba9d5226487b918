"""The README's own-model examples and its demonstration run; other commands exist and compose."""

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import yaml

from search.api import compose_plain
from search.bench import suites
from search.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
CODE = [text for kind, text in BLOCKS if kind == "python"]
COMMANDS = [
    line.split("#")[0].strip()
    for kind, text in BLOCKS
    if kind == ""
    for line in text.splitlines()
    if line.startswith(("bitfront-", "make "))
]


def test_the_readme_shows_commands():
    assert len(CODE) == 2
    assert sum(command.startswith("bitfront-search") for command in COMMANDS) >= 6


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("bitfront-search")])
def test_every_search_command_composes_into_valid_settings(command):
    words = shlex.split(command)[1:]
    overrides = [re.sub(r"(?<=,)?([^=]+=[^,\[{]*),.*", r"\1", w) for w in words if "=" in w]
    settings = Settings.from_dict(compose_plain(overrides))
    assert settings.strategies


def test_make_targets_and_other_commands_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    scripts = re.findall(r"^(bitfront-\w+) =", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for command in COMMANDS:
        first, *rest = shlex.split(command)
        assert first in scripts or (first == "make" and rest[0] in targets)
        if first == "bitfront-bench":
            assert rest[0] in suites()


def test_files_the_readme_names_exist():
    for name in re.findall(r"`((?:docs|quant|conf)/[\w/.]+)`", README):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\]\((docs/[^)]+)\)", README):
        assert (ROOT / name).exists(), name


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    (tmp_path / "my_model.py").write_text(CODE[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_your_own_model_from_the_command_line(workplace, monkeypatch, capsys):
    from search import run

    (command,) = [c for c in COMMANDS if "task=custom" in c]
    quick = ["runner=local", "budget.evaluations=3", "strategy=[random,greedy]"]
    monkeypatch.setattr("sys.argv", [*shlex.split(command), *quick])
    with pytest.raises(SystemExit) as ended:
        run.main()
    assert not ended.value.code, capsys.readouterr().err
    assert (workplace / "runs" / "mine" / "report.html").exists()


@pytest.mark.slow
def test_the_demonstration_in_small(workplace, monkeypatch, capsys):
    from search import run

    words = re.search(r"bitfront-search (.+)", (ROOT / "Makefile").read_text())[1].split()
    small = ["task.width=2", "task.epochs=1", "budget.evaluations=2", "runner=local"]
    monkeypatch.setattr("sys.argv", ["bitfront-search", *words, *small])
    with pytest.raises(SystemExit) as ended:
        run.main()
    assert not ended.value.code, capsys.readouterr().err
    demo = workplace / "runs" / "demo"
    front = json.loads((demo / "front.json").read_text())
    assert set(front["fronts"]) == {"size_bytes", "latency_ms", "latency_ms@mpic"}
    table = pd.read_parquet(demo / "trials.parquet")
    strategies = yaml.safe_load((ROOT / "conf/experiment/demo.yaml").read_text())["defaults"]
    (asked,) = [item["override /strategy"] for item in strategies if "override /strategy" in item]
    assert set(table["strategy"]) == {"baseline", *asked}
    assert (demo / "report.html").exists()
    assert (demo / "latency_ops.parquet").exists()


@pytest.mark.slow
def test_your_own_model_from_a_notebook(workplace, capsys):
    from search.runner.cluster import shutdown

    space: dict[str, object] = {}
    try:
        exec(compile(CODE[1], "README.md", "exec"), space)  # the README's own code
    finally:
        shutdown()
    printed = capsys.readouterr().out
    assert "test_accuracy" in printed
    assert "int8src/int8ut" in printed
    assert (workplace / "runs" / "notebook" / "report.html").exists()
