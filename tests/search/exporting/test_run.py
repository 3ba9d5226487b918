"""Names of policies, and runs that cannot be exported from."""

import json

import pytest

from quant.errors import DataError, UsageError
from search.exporting.run import open_run


@pytest.fixture(scope="module")
def run(finished):
    return open_run(finished)


def test_policies_are_named_by_role_tag_and_id(run):
    entries = run.front["policies"]
    assert run.choose("w8a8") == [run.tags["w8a8"]]
    assert run.choose("front") == list(
        dict.fromkeys(name for front in run.front["fronts"].values() for name in front)
    )
    knee = next(p["policy_id"] for p in run.front["picks"] if p["role"] == "knee")
    assert run.choose("knee") == run.choose(knee) == run.choose(knee[:8]) == [knee]
    assert set(run.choose("front")) <= set(entries)


@pytest.mark.parametrize("metric", ["size_bytes", "latency_ms"])
def test_the_cheapest_within_a_loss_is_on_search_accuracy(run, metric):
    word = {"size_bytes": "smallest_within", "latency_ms": "fastest_within"}[metric]
    entries = run.front["policies"]
    least = entries[run.tags["fp32"]]["accuracy"] - 0.05
    able = {name: entry for name, entry in entries.items() if entry["accuracy"] >= least}
    (found,) = run.choose(f"{word}:5pt")
    assert found in able
    assert entries[found][metric] == min(entry[metric] for entry in able.values())
    assert run.choose(f"{word}:0.05") == [found]


def test_any_evaluated_policy_can_be_exported(run, finished):
    import pandas as pd

    table = pd.read_parquet(finished / "trials.parquet")
    name = table["policy_id"].iloc[-1]
    assert run.policy(name).policy_id == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kne", "(?s)unknown policy 'kne'.*did you mean 'knee'"),
        ("ffffffffffff", "unknown policy"),
        ("fastest_within:fast", "names no loss of accuracy"),
        ("smallest_within:-1pt", "names no loss of accuracy"),
    ],
)
def test_other_names_are_refused(run, text, message):
    with pytest.raises(UsageError, match=message):
        run.choose(text)


def test_a_run_without_a_front_is_not_finished(run_dir):
    (run_dir / "front.json").unlink()
    with pytest.raises(DataError, match=r"(?s)front.json is missing.*same search command"):
        open_run(run_dir)


def test_other_weights_than_those_of_the_search_are_refused(run_dir):
    path = run_dir / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["task"]["weights_hash"] = "0" * 16
    path.write_text(json.dumps(manifest))
    message = r"(?s)weights_hash is .*searched on 0000.*restore.*task\.train=true"
    with pytest.raises(DataError, match=message):
        open_run(run_dir)
