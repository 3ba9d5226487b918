"""Exports in a report: what is claimed of measured files, and hostile records."""

import dataclasses
import json

import pytest

from reports.exports import exports_card, measured_claims, read_exports
from reports.figures.deployed import DeployedFigure


def timed(ms, spread=0.01):
    return {"measured_ms": ms, "low_ms": (1 - spread) * ms, "high_ms": (1 + spread) * ms}


def record(own=1.0, fp32=2.0, int8=1.0, noise=0.01, **changes):
    return {
        "policy_id": "abc",
        "format": "onnx",
        "runtime": "onnxruntime 1.0",
        "n": 100,
        "files": {"model.onnx": 1234},
        "latency": {
            **timed(own),
            "noise": noise,
            "references": {"fp32": timed(fp32), "w8a8": timed(int8)},
        },
        **changes,
    }


def with_exports(data, *records):
    return dataclasses.replace(data, exports=records)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "2.00x as fast as float32, within noise of uniform int8."),
        ({"int8": 0.5}, "2.00x as fast as float32, 2.00x as slow as uniform int8."),
        ({"int8": 1.2}, "2.00x as fast as float32, 1.20x as fast as uniform int8."),
        ({"int8": 1.2, "noise": 0.2}, "within noise of uniform int8."),
    ],
)
def test_a_claim_is_what_was_measured(data, given, expected):
    (claim,) = measured_claims(with_exports(data, record(**given)))
    assert claim.startswith("Measured end to end, the exported file of abc takes 1.00 ms: ")
    assert claim.endswith(expected)


def test_files_that_were_not_timed_claim_nothing(data):
    untimed = record(latency={})
    found = with_exports(data, untimed)
    assert measured_claims(found) == []
    assert DeployedFigure().applicable(found) == "No exported file was timed."
    assert "onnxruntime 1.0" in exports_card(found)


def test_a_run_without_exports_says_how_to_make_one(data):
    assert "bitfront-export run=" in exports_card(with_exports(data))


def test_hostile_records_are_escaped(data):
    bad = "<img src=x onerror=alert(1)>"
    found = with_exports(data, record(policy_id=bad, runtime=bad, format=bad))
    assert "<img" not in exports_card(found)


def test_folders_without_a_record_are_left_out(tmp_path):
    assert read_exports(tmp_path) == ()
    for name in ("a", "b"):
        (tmp_path / "exports" / name).mkdir(parents=True)
    content = {"schema_version": 1, **record()}
    (tmp_path / "exports" / "b" / "export.json").write_text(json.dumps(content))
    assert [item["policy_id"] for item in read_exports(tmp_path)] == ["abc"]
