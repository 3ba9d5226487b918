"""The command: files, figures, the report's section, and nothing half-written."""

import json
import re
import shlex
from pathlib import Path

import onnxruntime
import pytest

from reports.results import COLUMNS, results_table
from search.export import main
from search.exporting import write
from search.exporting.card import model_card
from search.exporting.run import open_run

README = (Path(__file__).parents[3] / "README.md").read_text()


def call(capsys, *words):
    code = 0
    try:
        main(list(words))
    except SystemExit as stop:
        code = stop.code
    out = capsys.readouterr()
    return code, out.out, out.err


def test_an_export_is_executed_judged_and_shown(capsys, run_dir):
    code, out, err = call(capsys, f"run={run_dir}", "policy=w8a8")
    assert code == 0
    assert "exporting" in err
    for word in ("accuracy", "answers", "size", "latency", "as fast as fp32", "report"):
        assert word in out
    (folder,) = (run_dir / "exports").iterdir()
    assert {item.name for item in folder.iterdir()} == {"model.onnx", "export.json", "card.md"}
    assert onnxruntime.InferenceSession(folder / "model.onnx").get_inputs()[0].shape[0] == "batch"
    record = json.loads((folder / "export.json").read_text())
    assert record["roles"][0] == "w8a8"
    assert record["against_device_simulation"]["agreement"] >= 0.995
    assert abs(record["accuracy_difference_samples"]) <= 0.01 * record["n"]
    size = sum(record["files"].values())
    assert abs(size - record["predicted_bytes"]) <= 0.02 * size + 64 * 1024
    assert set(record["latency"]["references"]) == {"fp32", "w8a8"}
    assert record["latency"]["low_ms"] <= record["latency"]["measured_ms"]
    card = (folder / "card.md").read_text()
    assert card == model_card(record)
    assert f"`bitfront-export run={run_dir} policy=w8a8`" in card
    page = (run_dir / "report.html").read_text()
    assert "Simulated against deployed" in page
    assert "Measured end to end, the exported file of" in page
    assert "runs as w8a8" not in card, "int8 has kernels of its own"


@pytest.mark.parametrize("words", [("format=torch",), ("format=torch", "coded=true")])
def test_packed_tensors_are_written_anywhere(capsys, run_dir, tmp_path, words):
    code, out, _ = call(
        capsys, f"run={run_dir}", "policy=knee", f"out={tmp_path / 'mine'}", *words
    )
    assert code == 0
    assert "100.00 % the same" in out
    assert not (run_dir / "exports").exists()
    (folder,) = (tmp_path / "mine").iterdir()
    assert (folder / "model.safetensors").exists()


def test_choices_and_grids_as_json(capsys, run_dir):
    assert call(capsys, f"run={run_dir}", "policy=w8a8", "format=json")[0] == 0
    (path,) = (run_dir / "exports").glob("*/policy.json")
    content = json.loads(path.read_text())
    layer = content["layers"]["stem.0"]
    assert len(layer["weight_scale"]) == 2
    assert layer["input_scale"] > 0


def test_openvino_reads_the_same_graph(capsys, run_dir):
    pytest.importorskip("openvino", reason="OpenVINO is an optional extra")
    code, out, _ = call(capsys, f"run={run_dir}", "policy=w8a8", "format=openvino")
    assert code == 0
    assert "in openvino" in out


def test_an_export_is_never_overwritten(capsys, run_dir):
    words = (f"run={run_dir}", "policy=w8a8", "format=json")
    assert call(capsys, *words)[0] == 0
    before = sorted(p.stat().st_mtime_ns for p in (run_dir / "exports").rglob("*"))
    code, _, err = call(capsys, *words)
    assert code == 2
    assert "exists" in err
    assert "never overwritten" in err
    assert sorted(p.stat().st_mtime_ns for p in (run_dir / "exports").rglob("*")) == before


def test_a_failure_leaves_nothing_behind(run_dir, monkeypatch):
    run = open_run(run_dir)

    def broken(*_, **__):
        raise RuntimeError("disk on fire")

    monkeypatch.setitem(write.WRITERS, "json", broken)
    with pytest.raises(RuntimeError):
        write.export(run, run.choose("w8a8"), write.Options("json"))
    assert list((run_dir / "exports").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["policy=knee"], "run=... is missing"),
        (["run=x"], "policy=... is missing"),
        (["run=x", "policy=knee", "format=onix"], "did you mean 'onnx'"),
        (["run=x", "policy=knee", "colour=red"], "unknown key 'colour'"),
        (["run=nowhere", "policy=knee"], "config.yaml is missing"),
        (["knee"], "is not a setting"),
        (["run=x", "policy=knee", "coded=maybe"], "coded is 'maybe'"),
    ],
)
def test_mistakes_are_told_before_any_work(capsys, words, message):
    code, _, err = call(capsys, *words)
    assert code in (2, 4)
    assert message in err


def test_huffman_words_are_refused_where_nothing_decodes_them(capsys, run_dir):
    code, _, err = call(capsys, f"run={run_dir}", "policy=w8a8", "coded=true")
    assert code == 2
    assert "no runtime decodes" in err
    assert list((run_dir / "exports").iterdir()) == []


def test_help_names_every_format(capsys):
    code, out, _ = call(capsys, "--help")
    assert code == 0
    for word in ("onnx", "openvino", "torch", "json", "front", "knee"):
        assert word in out


def test_the_command_of_the_readme_runs_and_its_table_is_the_scripts(capsys, run_dir):
    (line,) = re.findall(r"^(bitfront-export .*)$", README, re.MULTILINE)
    words = [w.replace("runs/demo", str(run_dir)) for w in shlex.split(line)[1:]]
    assert call(capsys, *words)[0] == 0
    assert call(capsys, f"run={run_dir}", "policy=w8a8,fp32")[0] == 0
    table = results_table(run_dir)
    shown = re.search(r"<!-- results -->\n(.*?)<!-- /results -->", README, re.DOTALL)[1]
    assert table.splitlines()[:2] == shown.splitlines()[:2]
    assert table.splitlines()[0].count("|") == len(COLUMNS) + 1
    rows = [line for line in table.splitlines() if "`" in line]
    assert len(rows) == len(list((run_dir / "exports").iterdir()))
    assert "Searched in" in table
