import dataclasses
import re

import numpy as np
import pytest

from quant.errors import UsageError
from reports.compare import Entrant, compare, differing_keys, flatten, merged, win_matrix
from reports.compare_page import comparison_html, render_comparison
from reports.data import load_run
from tests.support.synthetic_run import HOSTILE, Recipe, write_run


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    home = tmp_path_factory.mktemp("c") / "runs"
    small = Recipe(study="small", seeds=(0, 1), per_trial=12)
    large = Recipe(study="large", strategies=("random", "nsga2"), seeds=(0, 1), per_trial=30)
    return write_run(home / "small", small), write_run(home / "large", large)


@pytest.fixture(scope="module")
def runs(pair):
    return [load_run(path) for path in pair]


def changed_task(run, **task):
    manifest = {**run.manifest, "task": {**run.manifest["task"], **task}}
    return dataclasses.replace(run, manifest=manifest)


def test_finals_are_the_stored_hypervolumes(runs):
    comparison = compare(runs)
    assert comparison.costs == ("size_bytes", "latency_ms")
    stored = runs[0].front.hypervolume["size_bytes"]["by_trial"]
    hawq = next(e for e in comparison.entrants["size_bytes"] if e.name == "small / hawq")
    np.testing.assert_allclose(hawq.finals, [stored["hawq-0"], stored["hawq-1"]])


@pytest.mark.parametrize("key", ["name", "data_hash", "weights_hash", "n_search"])
def test_unlike_runs_are_refused_with_the_reason(runs, key):
    with pytest.raises(UsageError, match=f"different problems: task {key}"):
        compare([runs[0], changed_task(runs[1], **{key: "other"})])


def test_different_qualities_are_refused(runs):
    other = dataclasses.replace(runs[1], front=dataclasses.replace(runs[1].front, quality="kl"))
    with pytest.raises(UsageError, match="ce and kl"):
        compare([runs[0], other])


def test_one_run_is_nothing_to_compare(runs):
    with pytest.raises(UsageError, match="nothing to compare"):
        compare(runs[:1])


def test_costs_of_other_tables_are_left_out(runs):
    other = dataclasses.replace(runs[1], manifest={**runs[1].manifest, "profile_hash": "else"})
    comparison = compare([runs[0], other])
    assert comparison.costs == ("size_bytes",)
    assert comparison.left_out == {"latency_ms": "latency tables differ"}
    assert "latency tables differ" in comparison_html(comparison)


def test_moved_reference_points_are_left_out(runs):
    moved = {
        cost: dataclasses.replace(item, point=(9.0, item.point[1]))
        for cost, item in runs[1].front.reference.items()
    }
    front = dataclasses.replace(runs[1].front, reference=moved)
    with pytest.raises(UsageError, match="reference points differ"):
        compare([runs[0], dataclasses.replace(runs[1], front=front)])


def test_runs_of_one_name_are_told_apart_by_path(runs):
    twin = dataclasses.replace(runs[0], path="runs/twin")
    assert [run.name for run in compare([runs[0], twin]).runs] == ["runs/small", "runs/twin"]


def test_only_differing_keys_are_listed(runs):
    found = differing_keys(runs)
    assert found == {"budget.evaluations": ("12", "30")}
    assert flatten({"a": {"b": 1, "c": [1, 2]}}) == {"a.b": 1, "a.c": [1, 2]}


def test_win_matrix():
    better, worse, same = (
        Entrant(name, np.array(values))
        for name, values in [("b", [0.8, 0.9]), ("w", [0.1, 0.2]), ("s", [0.8, 0.9])]
    )
    wins = win_matrix([better, worse, same])
    assert wins[0, 1] == 1
    assert wins[1, 0] == 0
    assert wins[0, 2] == 0.5
    np.testing.assert_allclose(wins + wins.T, 1)


def test_merged_keeps_trials_apart(runs):
    together = merged(compare(runs))
    assert len(together.trials()) == sum(len(run.trials()) for run in runs)
    assert together.strategies()[0] == "small / random"


def test_page_is_deterministic_and_self_contained(pair, tmp_path):
    first = render_comparison(pair, tmp_path / "a.html").read_bytes()
    assert render_comparison(pair, tmp_path / "b.html").read_bytes() == first
    text = first.decode()
    assert "budget.evaluations" in text
    assert text.count('class="plot"') == 6  # two seeds: no attainment
    assert not re.search(r"<(link|script|img)[^>]+(src|href)=\"http", text)


def test_hostile_study_names(runs):
    bad = dataclasses.replace(runs[0], manifest={**runs[0].manifest, "study": HOSTILE})
    assert "<img src=x" not in comparison_html(compare([bad, runs[1]]))


@pytest.mark.browser
def test_page_draws(chromium, pair, tmp_path):
    chromium.errors.clear()
    chromium.size(1280, 900)
    chromium.open(render_comparison(pair, tmp_path / "compare.html"))
    drawn = "[...document.querySelectorAll('.plot')].map(p => p.data.length)"
    assert min(chromium.eval(drawn)) > 0
    assert chromium.errors == []
