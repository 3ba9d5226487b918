import json
import shutil
import subprocess
import sys

import pytest

from reports import cli


@pytest.fixture
def copy(demo, tmp_path):
    target = tmp_path / "runs" / "demo"
    shutil.copytree(demo, target, ignore=shutil.ignore_patterns("report.html"))
    return target


def run(capsys, *words):
    """Exit code, standard output and standard error of the command."""
    code = 0
    try:
        cli.main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code or 0
    out, err = capsys.readouterr()
    return code, out, err


def test_renders_and_prints_the_path(copy, capsys, monkeypatch):
    monkeypatch.chdir(copy.parent.parent)
    code, out, _ = run(capsys, "runs/demo")
    assert (code, out) == (0, "runs/demo/report.html\n")
    assert (copy / "report.html").stat().st_size > 4e6


def test_not_a_directory(capsys):
    code, _, err = run(capsys, "nowhere")
    assert code == 4
    assert "'nowhere' is not a directory" in err
    assert "fix:" in err


def test_not_a_run(tmp_path, capsys):
    code, _, err = run(capsys, tmp_path)
    assert code == 4
    assert "is not a run directory" in err


def test_newer_schema(copy, capsys):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 9}))
    code, _, err = run(capsys, copy)
    assert code == 4
    assert "upgrade bitfront" in err
    assert not (copy / "report.html").exists()


def test_empty_run(copy, capsys):
    (copy / "trials.parquet").unlink()
    shutil.rmtree(copy / "trials")
    (copy / "trials").mkdir()
    code, _, err = run(capsys, copy)
    assert code == 4
    assert "has no candidates yet" in err


def test_damaged_journal_in_the_middle(copy, capsys):
    (copy / "trials.parquet").unlink()
    journal = copy / "trials" / "hawq-0-a.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([*lines[:3], "{broken\n", *lines[4:]]))
    code, _, err = run(capsys, copy)
    assert code == 4
    assert "journal line 4 cannot be read" in err


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom reports.cli import parser\nparser().format_help()\n"
        "print([m for m in ('pandas', 'plotly', 'numpy', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_has_examples(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert out.count("bitfront-report") >= 3
