"""The stored figures are those of the stored weights: tables agree with the evaluator."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from quant.errors import DataError, UsageError
from quant.method import Method
from quant.sensitivity.base import ScoreContext
from quant.sensitivity.divergence import SingleLayer
from search.evaluate import Evaluator
from search.tabulated.build import SPACES, _leaves, tables
from search.tabulated.nets import DATA, NETS, tabulated_task
from search.tabulated.scores import FROM_SHIFTS, STORED, has_score, score
from search.tabulated.table import Table
from spaces.space import SearchSpace

NAMES = sorted(tables())


@pytest.fixture(scope="module")
def loaded():
    return {name: Table.load(DATA / f"{name}.npz") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_table_says_what_the_evaluator_finds(name, loaded):
    table = loaded[name]
    evaluator = Evaluator(tabulated_task(tables()[name][0]), table.space, Method())
    draws = table.space.sample(np.random.default_rng(0), 4)
    for codes, stored in zip(
        draws, table.evaluate([table.space.policy(c) for c in draws]), strict=True
    ):
        found = evaluator.evaluate([table.space.policy(codes)])[0]
        # Other machines add in another order, and quantizers turn that into steps.
        assert stored.ce == pytest.approx(found.ce, rel=0.02)
        assert stored.kl == pytest.approx(found.kl, rel=0.05, abs=1e-3)
        assert stored.accuracy == pytest.approx(found.accuracy, abs=0.011)


@pytest.mark.parametrize("net", sorted(NETS))
def test_the_walk_over_stages_equals_one_policy_at_a_time(net, loaded):
    space = loaded[f"{net}-w2348"].space
    # Two choices in three groups, the others fixed: eight policies.
    groups = tuple(
        replace(group, choices=group.choices[1:3] if i in (0, 2, 5) else group.choices[:1])
        for i, group in enumerate(space.groups)
    )
    small = SearchSpace("small", space.layers, groups)
    evaluator = Evaluator(tabulated_task(net), small, Method())
    walked = list(_leaves(evaluator, "calibration"))
    every = np.array(list(np.ndindex(*small.sizes)))
    assert len(walked) == len(every) == 8
    for codes, logits in zip(every, walked, strict=True):
        alone = evaluator.logits(small.policy(codes), "calibration")
        # The walk takes the split as one batch.
        assert torch.allclose(logits, alone, atol=1e-3)


def test_scores_from_shifts_equal_the_scores_of_a_study(loaded):
    table = loaded["mixer-w2348"]
    task = tabulated_task("mixer")
    evaluator = Evaluator(task, table.space, Method())
    context = ScoreContext(
        evaluator.quantized,
        tuple(group.layers for group in table.space.groups),
        tuple(group.choices for group in table.space.groups),
        task.calibration.inputs,
        task.calibration.labels,
        25,
        torch.Generator(),
    )
    for kind in ("kl", "ce"):
        found = SingleLayer(kind).compute(context)
        stored = score(table, kind, None)
        # Shifts are stored in half precision.
        assert np.allclose(stored.value, found.value, rtol=0.02, atol=2e-3)
        assert np.allclose(stored.standard_error, found.standard_error, rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("kind", [*STORED, *FROM_SHIFTS])
def test_a_seed_draws_the_calibration_data_again(kind, loaded):
    table = loaded["vit-w2348"]
    assert has_score(table, kind)
    stored, again, other = (
        score(table, kind, None if seed is None else np.random.default_rng(seed))
        for seed in (None, 1, 1)
    )
    assert np.array_equal(again.value, other.value)
    moved = not np.array_equal(stored.value, again.value)
    assert moved == bool(stored.standard_error.any())
    assert stored.forward_equivalents == again.forward_equivalents


def test_only_scores_with_a_surrogate_predict_policies(loaded):
    table = loaded["vit-wa3458"]
    codes = table.every[:3]
    assert set(score(table, "lss", None).surrogate.predict(codes)) == {"kl", "ce", "accuracy"}
    assert "ce" in score(table, "clado", None).surrogate.predict(codes)
    assert score(table, "kl", None).surrogate is None
    assert score(table, "hutchinson", None).curvature.shape == (7,)


def test_a_score_the_table_lacks_is_refused(loaded):
    with pytest.raises(DataError, match="holds no score 'fit'"):
        score(loaded["vit-w2348"], "fit", None)


def test_a_net_that_does_not_exist_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'mixer'"):
        tabulated_task("mixr")


def test_a_net_is_rebuilt_with_the_same_weights():
    one, two = tabulated_task("conv_long"), tabulated_task("conv_long")
    assert one.weights_hash == two.weights_hash
    assert one.data_hash == two.data_hash
    assert set(SPACES) == {"w2348", "wa3458"}
