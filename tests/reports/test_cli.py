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


def test_check_passes_and_fails(copy, capsys):
    code, out, _ = run(capsys, copy, "--check")
    assert code == 0
    assert "FAIL" not in out
    front = json.loads((copy / "front.json").read_text())
    front["hypervolume"]["size_bytes"]["all"] = 0.999
    (copy / "front.json").write_text(json.dumps(front))
    code, out, _ = run(capsys, copy, "--check")
    assert code == 4
    assert "FAIL" in out


@pytest.mark.parametrize("kind", ["md", "csv", "json"])
def test_text_formats_go_to_stdout(copy, capsys, kind):
    code, out, err = run(capsys, copy, "--format", kind)
    assert code == 0
    assert "size_bytes" in out or "weight size" in out
    assert err == ""
    assert not (copy / "report.html").exists()


def test_comparing_one_run_is_refused(copy, capsys):
    code, _, err = run(capsys, copy, "--compare")
    assert code == 2
    assert "nothing to compare" in err


def test_a_directory_of_runs_renders_each_and_reports_the_bad_one(copy, capsys):
    other = copy.parent / "other"
    shutil.copytree(copy, other)
    (other / "layers.json").unlink()
    code, out, err = run(capsys, copy.parent)
    assert code == 4
    assert out.strip().endswith("demo/report.html")
    assert "layers.json is missing" in err


def test_index(copy, capsys):
    code, out, _ = run(capsys, copy.parent, "--index")
    assert code == 0
    assert out.strip().endswith("runs/index.html")


def test_modes_exclude_each_other(copy, capsys):
    code, _, err = run(capsys, copy, "--check", "--index")
    assert code == 2
    assert "not allowed with" in err


def test_output_goes_with_compare(copy, capsys):
    code, _, err = run(capsys, copy, "--output", "x.html")
    assert code == 2
    assert "--compare only" in err


def test_pages_share_one_library(copy, capsys):
    other = copy.parent / "other"
    shutil.copytree(copy, other)
    code, _, _ = run(capsys, copy.parent, "--plotly", "directory")
    assert code == 0
    (library,) = copy.parent.glob("plotly-*.min.js")
    for page in (copy / "report.html", other / "report.html"):
        text = page.read_text()
        assert f'src="../{library.name}"' in text
        assert len(text) < 1e6
        assert "script-src 'self' file: 'unsafe-inline'" in text.replace("&#x27;", "'")


def test_a_single_run_keeps_the_library_beside_itself(copy, capsys):
    run(capsys, copy, "--plotly", "directory")
    assert list(copy.parent.glob("plotly-*.min.js"))
    assert not list(copy.glob("plotly-*.min.js"))


def test_the_jobs_of_a_sweep_are_rendered_and_compared(copy, capsys):
    sweep = copy.parent
    shutil.copytree(copy, sweep / "again")
    (sweep / "multirun.yaml").write_text("")
    code, out, err = run(capsys, sweep)
    assert (code, err) == (0, "")
    assert [line.rpartition("/")[2] for line in out.splitlines()] == [
        "report.html", "report.html", "compare.html",
    ]  # fmt: skip
    assert (sweep / "compare.html").exists()


def test_a_sweep_of_different_problems_says_why_it_is_not_compared(copy, capsys):
    other = copy.parent / "other"
    shutil.copytree(copy, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["task"]["name"] = "another"
    (other / "manifest.json").write_text(json.dumps(manifest))
    (copy.parent / "multirun.yaml").write_text("")
    code, out, err = run(capsys, copy.parent)
    assert code == 0
    assert "not compared: " in err
    assert len(out.splitlines()) == 2
