"""The whole loop from a notebook: model and loaders in, fronts, policies and a report out."""

import numpy as np
import pandas as pd
import pytest
import yaml

from quant.errors import InfeasibleError, UsageError
from quant.sensitivity.superposition import Superposition
from search.api import search
from search.records import read_journals
from spaces.choices import parse_choice
from tests.e2e.conftest import read

LOCAL = ("runner=local",)


@pytest.fixture(scope="module")
def result(tiny_model, splits, tmp_path_factory):
    return search(
        tiny_model,
        **splits,
        strategies=["random", "greedy", "nsga2", "hawq"],
        evaluations=8,
        run_dir=tmp_path_factory.mktemp("runs") / "mine",
        name="mine",
        overrides=LOCAL,
    )


def test_the_run_directory_is_complete(result):
    names = {path.name for path in result.run_dir.iterdir()}
    assert names >= {
        "manifest.json", "config.yaml", "status.json", "run.log", "layers.json", "profile.json",
        "trials", "trials.parquet", "front.json", "policies", "sensitivity.parquet", "report.html",
    }  # fmt: skip
    assert not [name for name in names if name.startswith(".")]
    assert read(result.run_dir / "status.json")["state"] == "finished"
    assert yaml.safe_load((result.run_dir / "config.yaml").read_text())["study"] == "mine"


def test_no_absolute_path_or_host_is_written(result):
    for name in ("manifest.json", "front.json", "layers.json", "status.json"):
        assert str(result.run_dir.parent) not in (result.run_dir / name).read_text()


def test_every_strategy_spent_its_budget_on_distinct_candidates(result):
    counted = result.table.groupby("strategy")["policy_id"].agg(["size", "nunique"])
    assert set(counted.index) == {"baseline", "random", "greedy", "nsga2", "hawq"}
    assert (counted["size"] == counted["nunique"]).all()
    assert (counted["size"].drop("baseline") == 8).all()
    assert (result.table["status"] == "ok").all()


def test_the_table_equals_the_journals(result):
    lines = read_journals(result.run_dir / "trials")
    stored = pd.read_parquet(result.run_dir / "trials.parquet")
    assert stored["quality_key"].tolist() == [line.result.quality_key for line in lines]
    assert stored["ce"].tolist() == [line.result.ce for line in lines]
    assert (stored["size_bytes"] > 0).all()
    assert (stored["latency_ms"] > 0).all()


def test_the_front_is_nondominated_and_has_test_figures(result):
    front = result.front("size_bytes")
    assert len(front) >= 2
    assert (front["size_bytes"].diff().dropna() > 0).all()
    assert (front["ce"].diff().dropna() < 0).all()
    assert (front["test_n"] == 99).all()
    assert (front["test_accuracy_low"] <= front["test_accuracy"]).all()
    assert (front["test_accuracy"] <= front["test_accuracy_high"]).all()


def test_the_float_baseline_has_no_divergence(result):
    record = read(result.run_dir / "front.json")
    item = record["policies"][record["float"]]
    assert item["tag"] == "fp32"
    assert item["kl"] == pytest.approx(0, abs=1e-9)
    assert item["mean_weight_bits"] == 32


def test_policies_are_complete_and_readable(result):
    choices = result.policy("knee")
    assert set(choices) == {
        layer["name"] for layer in read(result.run_dir / "layers.json")["layers"]
    }
    assert all(parse_choice(text).text == text for text in choices.values())
    assert choices == result.policy(
        next(p["policy_id"] for p in result.record["picks"] if p["role"] == "knee")
    )


def test_unknown_names_are_refused(result):
    with pytest.raises(UsageError, match=r"(?s)unknown cost 'size'.*did you mean 'size_bytes'"):
        result.front("size")
    with pytest.raises(UsageError, match=r"(?s)unknown policy 'kne'.*did you mean 'knee'"):
        result.policy("kne")


def test_hypervolumes_are_shares_and_references_are_stored(result):
    record = result.record
    for cost in ("size_bytes", "latency_ms"):
        shares = record["hypervolume"][cost]
        assert set(shares["by_trial"]) == {"random-0", "greedy-0", "nsga2-0", "hawq-0"}
        assert all(
            0 <= v <= shares["all"] + 1e-12 <= 1 + 1e-9 for v in shares["by_trial"].values()
        )
        assert len(record["reference"][cost]["point"]) == 2
    assert record["costs"]["latency_ms"]["provenance"] == "measured"


def test_running_the_same_study_again_evaluates_nothing(result, tiny_model, splits):
    journals = sorted((result.run_dir / "trials").iterdir())
    again = search(
        tiny_model, **splits, strategies=["random", "greedy", "nsga2", "hawq"], evaluations=8,
        run_dir=result.run_dir, name="mine", overrides=LOCAL,
    )  # fmt: skip
    assert sorted((result.run_dir / "trials").iterdir()) == journals
    pd.testing.assert_frame_equal(again.table, result.table)


def test_another_space_in_the_same_directory_is_refused(result, tiny_model, splits):
    with pytest.raises(UsageError, match=r"(?s)another configuration:.*space.name: w2348 -> int8"):
        search(
            tiny_model, **splits, space="int8_float", strategies=["random"], evaluations=8,
            run_dir=result.run_dir, name="mine", overrides=LOCAL,
        )  # fmt: skip


def test_an_infeasible_budget_writes_nothing(tiny_model, splits, tmp_path):
    space = {"name": "s", "weights": ["int4src"], "constraints": [{"size_bytes": 10}]}
    with pytest.raises(InfeasibleError, match=r"size_bytes <= 10 cannot be reached"):
        search(
            tiny_model, **splits, space=space, strategies=["random"], run_dir=tmp_path / "r",
            overrides=LOCAL,
        )  # fmt: skip
    assert not (tmp_path / "r").exists()


def test_a_constrained_study_never_exceeds_its_limit(tiny_model, splits, tmp_path):
    found = search(
        tiny_model,
        **splits,
        space={
            "name": "s",
            "weights": ["int2src", "int4src", "int8src"],
            "activations": ["int8ut"],
            "constraints": [{"size_bytes": "0.2x"}],
        },
        strategies=["random", "greedy", "hawq", "nsga2"],
        evaluations=6,
        run_dir=tmp_path / "r",
        overrides=LOCAL,
    )
    limit = 0.2 * found.table.set_index("tag").loc["fp32", "size_bytes"]
    assert (found.front("size_bytes")["size_bytes"] <= limit).all()
    searched = found.table[found.table["strategy"].isin(["random", "greedy", "hawq"])]
    assert (searched["size_bytes"] <= limit).all()


def test_a_finished_study_can_be_extended(tiny_model, splits, tmp_path):
    def run(strategies, seeds, *more):
        return search(
            tiny_model, **splits, strategies=strategies, seeds=seeds, evaluations=4,
            run_dir=tmp_path / "r", overrides=[*LOCAL, *more],
        )  # fmt: skip

    first = run(["random"], [0])
    with pytest.raises(UsageError, match="resume=extend"):
        run(["random", "greedy"], [0, 1])
    more = run(["random", "greedy"], [0, 1], "resume=extend")
    assert set(zip(more.table["strategy"], more.table["seed"], strict=True)) == {
        ("baseline", 0), ("random", 0), ("random", 1), ("greedy", 0), ("greedy", 1),
    }  # fmt: skip
    kept = more.table[(more.table["strategy"] == "random") & (more.table["seed"] == 0)]
    old = first.table[first.table["strategy"] == "random"]
    assert kept["quality_key"].tolist() == old["quality_key"].tolist()
    assert kept["eval_s"].tolist() == old["eval_s"].tolist()


def test_a_stored_surrogate_predicts_what_was_searched_with(tiny_model, splits, tmp_path):
    found = search(
        tiny_model,
        **splits,
        strategies=["lss"],
        evaluations=4,
        run_dir=tmp_path / "kept",
        name="kept",
        overrides=LOCAL,
    )
    with np.load(found.run_dir / "surrogate-lss.npz", allow_pickle=False) as arrays:
        surrogate = Superposition.of(arrays)
    stored = pd.read_parquet(found.run_dir / "sensitivity.parquet").query("kind == 'lss'")
    groups = stored["group"].nunique()
    assert surrogate.shifts.shape[0] == groups
    predicted = surrogate.swaps(_float_codes(surrogate), "kl")
    values = stored["value"].to_numpy()
    rows = zip(stored["group"], stored.groupby("group").cumcount(), strict=True)
    assert np.allclose([predicted[place] for place in rows], values, rtol=1e-3, atol=1e-6)


def _float_codes(surrogate):
    """A choice of each group that shifts nothing."""
    return np.abs(surrogate.shifts).max(axis=(2, 3)).argmin(axis=1)
