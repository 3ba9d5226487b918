"""Episodes: what is seen, what is allowed, and budgets that hold."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import InfeasibleError, UsageError
from search.rl.episodes import Episodes, Problem, geometry_of
from search.strategies.base import SearchContext
from tests.search.rl.problems import additive, problem_of
from tests.support.toy import ToyCosts, toy_space

COSTS = np.array([[[1.0, 4.0], [2.0, 3.0], [5.0, 9.0]]])
HARM = np.array([[4.0, 1.0], [2.0, 0.0], [1.0, 0.5]])


def test_a_mask_keeps_the_budget_within_reach():
    problem = problem_of(COSTS, HARM)
    episodes = Episodes(problem, np.zeros(3, int), np.array([8.0, 11.5, 16.0]))
    # Least cost of the rest is 7: the second choice needs 11 at least.
    assert episodes.masks().tolist() == [[True, False], [True, True], [True, True]]
    episodes.step(np.array([0, 1, 1]))
    assert episodes.masks().tolist() == [[True, False], [True, False], [True, True]]
    episodes.step(np.array([0, 0, 1]))
    assert episodes.masks().tolist() == [[True, False], [True, False], [True, True]]
    assert episodes.spent.tolist() == [3.0, 6.0, 7.0]


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_every_episode_ends_within_its_budget(seed, share):
    problem, _ = additive(seed % 50, groups=6)
    rng = np.random.default_rng(seed)
    low, high = problem.range[0]
    budget = np.full(20, low + share * (high - low))
    episodes = Episodes(problem, np.zeros(20, int), budget)
    while not episodes.is_done:
        masks = episodes.masks()
        assert masks.any(axis=1).all()
        draws = rng.random(masks.shape) * masks
        episodes.step(draws.argmax(axis=1))
    assert (episodes.spent <= budget * (1 + 1e-9)).all()


def test_masks_forbid_exactly_what_cannot_be_completed():
    problem = problem_of(COSTS, HARM)
    for budget in np.linspace(8, 16, 17):
        every = [c for c in itertools.product(range(2), repeat=3)
                 if sum(COSTS[0, g, i] for g, i in enumerate(c)) <= budget]  # fmt: skip
        episodes = Episodes(problem, np.zeros(1, int), np.array([budget]))
        assert set(np.flatnonzero(episodes.masks()[0])) == {c[0] for c in every}


def test_a_maximum_is_a_budget_for_each_group():
    problem = problem_of(COSTS, HARM, metrics=("peak_bytes",))
    assert problem.range.tolist() == [[5.0, 9.0]]
    episodes = Episodes(problem, np.zeros(1, int), np.array([5.0]))
    seen = []
    for action in (1, 1, 0):
        seen.append(episodes.masks()[0].tolist())
        episodes.step(np.array([action]))
    assert seen == [[True, True], [True, True], [True, False]]
    assert episodes.spent.tolist() == [5.0]


def test_every_field_of_an_observation_is_named_and_within_one():
    problem, _ = additive(groups=5)
    episodes = Episodes(problem, np.zeros(4, int), np.linspace(*problem.range[0], 4))
    names = problem.fields
    assert len(names) == len(set(names))
    while not episodes.is_done:
        seen = episodes.observe()
        assert seen.shape == (4, len(names))
        assert (seen >= 0).all() and (seen <= 1).all()
        episodes.step(episodes.masks().argmax(axis=1))
    budget = seen[:, names.index("budget")]
    assert np.allclose(budget, [0, 1 / 3, 2 / 3, 1], atol=1e-6)


def test_padded_choices_are_never_allowed():
    costs = np.array([[[1.0, np.inf], [1.0, 2.0]]])
    problem = problem_of(costs, np.array([[1.0, 0.0], [1.0, 0.5]]), sizes=[1, 2])
    episodes = Episodes(problem, np.zeros(1, int), np.array([9.0]))
    assert episodes.masks().tolist() == [[True, False]]
    assert problem.range.tolist() == [[2.0, 3.0]]


def test_a_budget_out_of_reach_is_refused_with_what_is_needed():
    problem = problem_of(COSTS, HARM)
    with pytest.raises(InfeasibleError, match=r"(?s)budget 7 of size_bytes.*at least 8"):
        Episodes(problem, np.zeros(1, int), np.array([7.0]))


def test_a_space_without_decisions_is_refused():
    problem = problem_of(COSTS[:, :, :1], HARM[:, :1])
    with pytest.raises(UsageError, match="nothing to decide"):
        Episodes(problem, np.zeros(1, int), np.array([20.0]))


def test_a_problem_of_a_trial_has_its_costs_and_geometry():
    space = toy_space(groups=3, choices=2)
    costs = ToyCosts(space)
    context = SearchContext(
        space, costs, {}, "ce", costs.metrics, (), np.random.default_rng(0), 10
    )
    problem = Problem.of(context, "")
    assert problem.metrics == ("size_bytes", "latency_ms")
    assert np.allclose(problem.costs[0], costs.table("size_bytes")[:, :2])
    assert not problem.harm.any()
    geometry = geometry_of(space)
    assert (geometry >= 0).all() and (geometry <= 1).all()
    assert geometry[:, 0].tolist() == [0.0, 0.5, 1.0]
