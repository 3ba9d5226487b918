"""Quality figures of the README hold on this machine within one test image."""

import re
from pathlib import Path

import pytest
import torch

from search.api import compose_plain
from search.evaluate import Evaluator
from search.plan import load_task
from search.settings import Settings
from search.tasks.ship import SHIPPED
from spaces.baselines import uniform_policies
from spaces.build import build_space
from spaces.inventory import trace

README = (Path(__file__).parents[2] / "README.md").read_text()
N = 600
METHODS = {
    name: dict(zip(("w4a8", "w3a8", "w2a8"), map(float, losses), strict=True))
    for name, *losses in re.findall(
        r"^\| `(\w+)`[^|]*\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", README, re.MULTILINE
    )
}
"""Cross-entropy of uniform policies by method."""
DEMO = {
    tag: (float(accuracy), float(loss), mark)
    for tag, accuracy, loss, mark in re.findall(
        r"^(fp32|w\da8) +([\d.]+) ±[\d.]+ +([\d.]+) ±.* (\w{12})$", README, re.MULTILINE
    )
}
"""Accuracy in percent, cross-entropy and id of the uniform policies of the demonstration."""


def uniform(method):
    """``{tag: (policy, result on the test split)}`` of the demonstration's task and space."""
    settings = Settings.from_dict(compose_plain(["+experiment=demo", f"method={method}"]))
    task = load_task(settings)
    space = build_space(settings.space, trace(task.model, task.example_input))
    evaluator = Evaluator(task, space, settings.method)
    policies = {tag: space.policy(codes) for tag, codes in uniform_policies(space)}
    return {tag: (p, evaluator.evaluate([p], "test")[0]) for tag, p in policies.items()}


def agrees(loss, published):
    """Within what one image of 600 and the digits shown make of a mean loss."""
    return loss == pytest.approx(published, rel=0.01, abs=0.002)


def test_the_readme_has_both_tables():
    assert set(METHODS) == {"rtn_mse", "bias_correction", "equalize", "gptq", "adaround"}
    assert set(DEMO) == {"fp32", "w8a8", "w4a8", "w3a8", "w2a8"}


def test_uniform_policies_of_the_demonstration():
    found = uniform("rtn_mse")
    for tag, (accuracy, loss, mark) in DEMO.items():
        policy, result = found[tag]
        assert policy.policy_id == mark
        assert abs(result.accuracy * N - accuracy * N / 100) < 1.31  # one, and a rounded percent
        assert agrees(result.ce, loss), tag
    for tag, loss in METHODS["rtn_mse"].items():
        assert agrees(found[tag][1].ce, loss), tag


@pytest.mark.heavy
@pytest.mark.parametrize("method", sorted(set(METHODS) - {"rtn_mse"}))
def test_methods(method):
    found = uniform(method)
    for tag, loss in METHODS[method].items():
        assert agrees(found[tag][1].ce, loss), tag


@pytest.mark.heavy
@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_recipe_trained_here_is_as_good_as_the_shipped_weights(name, tmp_path, monkeypatch):
    """Other kernels give other weights; both are networks of the same quality."""
    monkeypatch.setenv("BITFRONT_CACHE", str(tmp_path))
    task, shipped = SHIPPED[name](train=True), SHIPPED[name]()
    with torch.no_grad():
        right = [
            int((t.model(t.test.inputs).argmax(1) == t.test.labels).sum()) for t in (task, shipped)
        ]
    assert min(right) >= 0.88 * N  # four standard errors of 600 images below the shipped ones
    assert abs(right[0] - right[1]) < 0.06 * N
