import csv
import dataclasses
import io
import json

from reports.texts import as_csv, as_json, as_markdown
from tests.support.synthetic_run import HOSTILE


def test_csv_holds_every_candidate_unrounded(data):
    rows = list(csv.DictReader(io.StringIO(as_csv(data))))
    assert len(rows) == len(data.table)
    assert [float(row["size_bytes"]) for row in rows] == data.table["size_bytes"].tolist()


def test_json_holds_verdicts_picks_and_findings(data):
    content = json.loads(as_json(data))
    assert content["verdicts"]["size_bytes"]["beats"] is True
    assert {(p["role"], p["cost"], p["policy_id"]) for p in content["picks"]} == {
        (p.role, p.cost, p.policy_id) for p in data.front.picks
    }
    assert content["fronts"]["size_bytes"] == list(data.front.fronts["size_bytes"])
    assert any(item["level"] == "INFO" for item in content["findings"])


def test_markdown_is_a_table_people_can_paste(data):
    text = as_markdown(data)
    assert text.startswith("# demo\n")
    assert "| w8a8 |" in text
    assert f"`{data.front.pick('knee', 'size_bytes')}`" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1


def test_markdown_escapes_names(data):
    named = dataclasses.replace(data, manifest={**data.manifest, "study": HOSTILE})
    assert "<img" not in as_markdown(named)
