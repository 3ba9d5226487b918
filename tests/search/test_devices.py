"""Several devices in one study: evaluated once, with a front, a table and a regret for each."""

import json

import numpy as np
import pytest

from quant.errors import UsageError
from quant.sensitivity.base import ScoreTable
from quant.sensitivity.superposition import Superposition
from search.api import compose_plain
from search.evaluate import Evaluator
from search.finish import add_front_probabilities
from search.plan import make_plan
from search.settings import Settings
from search.study import build_score, run_study, score_context

SMALL = ("task.width=2", "task.epochs=1", "runner=local", "strategy=[additive,random]")


def study(tmp_path, *overrides):
    raw = compose_plain([*SMALL, "budget.evaluations=4", *overrides])
    raw["run_dir"] = str(tmp_path / "run")
    plan = make_plan(Settings.from_dict(raw))
    return plan, raw


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    plan, raw = study(folder, "hw=[this,mpic]", "space=w2348", "strategy=[lss,random]")
    run_study(plan, raw, "test")
    return plan, folder / "run"


def test_each_device_has_a_front_and_a_table(two):
    plan, run = two
    assert plan.cost_metrics == ("size_bytes", "latency_ms", "latency_ms@mpic")
    front = json.loads((run / "front.json").read_text())
    assert set(front["fronts"]) == set(plan.cost_metrics)
    assert front["costs"]["latency_ms"]["provenance"] == "measured"
    assert front["costs"]["latency_ms@mpic"]["provenance"] in ("published", "mixed")
    assert (run / "profile.json").exists()
    assert (run / "profile-mpic.json").exists()
    assert (run / "latency_check.parquet").exists()
    assert all("latency_ms@mpic" in item for item in front["policies"].values())


def test_the_regret_of_each_front_on_the_other_device_is_stored(two):
    _, run = two
    found = json.loads((run / "front.json").read_text())["regret"]
    assert set(found) == {"latency_ms", "latency_ms@mpic"}
    for own, row in found.items():
        assert row[own] == pytest.approx(0, abs=1e-9)
        assert all(-1e-9 <= value <= 1 for value in row.values())


def test_front_policies_say_how_sure_their_place_is(two):
    _, run = two
    front = json.loads((run / "front.json").read_text())
    for metric, members in front["fronts"].items():
        shares = [front["policies"][name]["front_probability"][metric] for name in members]
        assert all(0 <= share <= 1 for share in shares)
        assert shares[0] == 1, "nothing is cheaper than the cheapest"


def test_a_strict_device_cuts_what_it_cannot_run(tmp_path):
    plan, _ = study(tmp_path, "hw=edge_tpu")
    assert {choice.weight.bits for group in plan.space.groups for choice in group.choices} == {8}
    assert plan.space.cuts
    assert "Edge TPU computes w8a8 only" in plan.space.cuts[0].reason


def test_probabilities_need_a_surrogate():
    front = {"quality": "ce", "fronts": {"size_bytes": []}, "policies": {}}
    table = ScoreTable("kl", np.zeros((1, 1)), np.zeros((1, 1)), 0.0, 0.0)
    add_front_probabilities(front, {"kl": table})
    base = np.zeros((3, 2), np.float32)
    surrogate = Superposition(base, np.zeros((1, 1, 3, 2), np.float32))
    add_front_probabilities(
        front, {"lss": ScoreTable("lss", *[np.zeros((1, 1))] * 2, 0, 0, (), surrogate)}
    )
    assert front["policies"] == {}


def test_a_score_may_use_a_subset_but_no_more_than_there_is(tmp_path):
    plan, _ = study(tmp_path, "hw=mpic", "+score.kl.subset=50")
    evaluator = Evaluator(plan.task, plan.space, plan.settings.method)
    found = score_context(plan, evaluator, "kl")
    assert len(found.inputs) == len(found.labels) == 50
    assert len(score_context(plan, evaluator, "ce").inputs) == plan.task.calibration.n
    assert build_score(plan, "kl").kind == "kl"
    plan, _ = study(tmp_path, "hw=mpic", "+score.kl.subset=5000")
    with pytest.raises(UsageError, match=r"(?s)5000 samples are asked for.*has 200.*subset=200"):
        score_context(plan, evaluator, "kl")
