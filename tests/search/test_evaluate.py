"""The judge: qualities by hand, failures as records, splits kept apart."""

import math

import pytest
import torch
from torch import nn

from quant.errors import UsageError
from quant.method import Method
from search.evaluate import Evaluator
from search.tasks.custom import task_from
from spaces.baselines import uniform_policies
from spaces.build import build_space
from spaces.config import SpaceConfig
from spaces.inventory import trace

CONFIG = SpaceConfig.from_dict(
    {"name": "t", "weights": ["int4src", "int8src"], "activations": ["int8ut"]}, where="space"
)


def data(n, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 5, generator=generator)
    return inputs, torch.arange(n) % 3


@pytest.fixture
def evaluator():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    model.requires_grad_(False)
    task = task_from(model, data(40, 1), data(30, 2), data(60, 3), batch_size=7)
    traced = trace(task.on_device.model, task.on_device.example_input)
    space = build_space(CONFIG, traced, lambda layer, choice: None)
    return Evaluator(task, space, Method())


def uniform(evaluator, tag):
    codes = dict(uniform_policies(evaluator.space))[tag]
    return evaluator.space.policy(codes)


def test_the_float_policy_has_the_float_models_qualities(evaluator):
    (result,) = evaluator.evaluate([uniform(evaluator, "fp32")])
    inputs, labels = data(30, 2)
    logits = evaluator.task.model(inputs)
    losses = nn.functional.cross_entropy(logits.double(), labels, reduction="none")
    assert result.ok
    assert result.n == 30
    assert result.ce == pytest.approx(float(losses.mean()), rel=1e-6)
    assert result.standard_error == pytest.approx(float(losses.std()) / math.sqrt(30), rel=1e-6)
    assert result.kl == pytest.approx(0.0, abs=1e-7)
    assert result.accuracy == pytest.approx(float((logits.argmax(1) == labels).float().mean()))


def test_divergence_is_of_the_quantized_from_the_float_model(evaluator):
    policy = uniform(evaluator, "w4a8")
    (result,) = evaluator.evaluate([policy])
    logits = evaluator.logits(policy, "search")
    p = evaluator.float_logprobs("search").double()
    q = nn.functional.log_softmax(logits.double(), dim=1)
    assert result.kl == pytest.approx(float((p.exp() * (p - q)).sum(1).mean()), rel=1e-6)
    assert result.kl > 0


def test_losses_of_samples_average_to_the_cross_entropy(evaluator):
    result, losses = evaluator.evaluate_each(uniform(evaluator, "w8a8"))
    assert losses.shape == (30,)
    assert result.ce == pytest.approx(float(losses.mean()))


def test_splits_are_kept_apart(evaluator):
    policy = uniform(evaluator, "w8a8")
    keys = {evaluator.key(policy, split) for split in ("calibration", "search", "test")}
    assert len(keys) == 3
    assert evaluator.evaluate([policy], "test")[0].n == 60
    with pytest.raises(UsageError, match="unknown split 'validation'"):
        evaluator.evaluate([policy], "validation")


def test_a_policy_is_judged_the_same_whatever_came_before(evaluator):
    policies = [uniform(evaluator, tag) for tag in ("w8a8", "w4a8", "fp32", "w4a8", "w8a8")]
    found = evaluator.evaluate(policies)
    assert [r.ce for r in found] == [r.ce for r in [*found[:3], found[1], found[0]]]


@pytest.mark.parametrize(
    "cause",
    [
        MemoryError("cannot allocate 3 GiB"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("shapes do not match"),
        FloatingPointError("overflow"),
    ],
    ids=lambda cause: type(cause).__name__,
)
def test_what_an_evaluation_raises_is_recorded_and_the_next_one_runs(
    evaluator, monkeypatch, cause
):
    bad, good = uniform(evaluator, "w4a8"), uniform(evaluator, "w8a8")
    whole = Evaluator.logits

    def logits(self, policy, split):
        if policy.policy_id == bad.policy_id:
            raise cause
        return whole(self, policy, split)

    monkeypatch.setattr(Evaluator, "logits", logits)
    failed, fine = evaluator.evaluate([bad, good])
    assert not failed.ok
    assert math.isnan(failed.ce)
    assert failed.error.startswith(str(cause))
    assert failed.quality_key == evaluator.key(bad)
    assert fine.ok


def test_a_model_that_answers_nan_is_a_failed_candidate(evaluator, monkeypatch):
    monkeypatch.setattr(
        Evaluator, "logits", lambda self, policy, split: torch.full((30, 3), torch.nan)
    )
    (result,) = evaluator.evaluate([uniform(evaluator, "w8a8")])
    assert (result.status, result.error) == (
        "failed",
        "the quantized model answers NaN or infinity",
    )


def test_a_bug_is_not_hidden_as_a_failed_candidate(evaluator, monkeypatch):
    def logits(self, policy, split):
        raise AttributeError("no such thing")

    monkeypatch.setattr(Evaluator, "logits", logits)
    with pytest.raises(AttributeError):
        evaluator.evaluate([uniform(evaluator, "w8a8")])
