import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.pareto import front_indices, hypervolume
from search.solvers.front_dp import solve_front
from search.solvers.problem import from_tables
from search.solvers.refine import Landscape, neighbours, refine

GROUPS, CHOICES = 5, 3
EVERY = np.array(list(itertools.product(range(CHOICES), repeat=GROUPS)))


def everything(codes):
    return np.ones(len(codes), dtype=bool)


def tables(seed):
    rng = np.random.default_rng(seed)
    score = -np.sort(-rng.lognormal(0, 1, (GROUPS, CHOICES)), axis=1)
    cost = np.sort(rng.uniform(0, 1, (GROUPS, CHOICES)), axis=1)
    pairs = rng.normal(0, 0.3, (GROUPS, CHOICES, GROUPS, CHOICES))
    return score, cost, pairs


def landscape(seed, interaction=1.0, feasible=everything):
    score, cost, pairs = tables(seed)
    rows = np.arange(GROUPS)

    def loss(codes):
        own = score[rows, codes].sum(axis=1)
        both = pairs[rows[:, None], codes[:, :, None], rows[None, :], codes[:, None, :]]
        return own + interaction * both.sum(axis=(1, 2))

    sizes = np.full(GROUPS, CHOICES)
    return Landscape(sizes, loss, lambda codes: cost[rows, codes].sum(axis=1), feasible)


def additive_front(seed):
    score, cost, _ = tables(seed)
    front = solve_front(from_tables(score, [cost]))
    return np.stack([front.policy(i) for i in range(len(front))])


def test_neighbours_differ_in_one_group():
    codes = np.array([0, 2, 1])
    found = neighbours(codes, np.array([2, 3, 2]))
    assert sorted(map(tuple, found)) == [(0, 0, 1), (0, 1, 1), (0, 2, 0), (1, 2, 1)]


def test_a_fixed_group_has_no_neighbour():
    assert len(neighbours(np.array([0, 0]), np.array([1, 1]))) == 0


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_what_is_found_is_nondominated_and_no_worse_than_the_start(seed):
    field = landscape(seed)
    start = additive_front(seed)
    found = refine(start, field)
    points = np.stack([found.cost, found.loss], axis=1)
    assert len(front_indices(points)) == len(points)
    assert np.allclose(found.loss, field.loss(found.codes))
    before = np.stack([field.cost(start), field.loss(start)], axis=1)
    assert all((points <= point + 1e-12).all(axis=1).any() for point in before)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_without_interactions_the_exact_front_is_already_there(seed):
    field = landscape(seed, interaction=0.0)
    start = additive_front(seed)
    assert np.allclose(refine(start, field).loss, refine(start, field, rounds=0).loss)


def test_it_finds_nearly_all_of_the_enumerated_front():
    shares = []
    for seed in range(20):
        field = landscape(seed)
        loss, cost = field.loss(EVERY), field.cost(EVERY)
        worst = np.array([loss.max() + 0.1, cost.max() + 0.1])
        found = refine(additive_front(seed), field)
        best = hypervolume(np.stack([loss, cost], axis=1), worst)
        shares.append(hypervolume(np.stack([found.loss, found.cost], axis=1), worst) / best)
    assert min(shares) > 0.95
    assert np.median(shares) > 0.999


def test_infeasible_policies_are_never_returned():
    rows = np.arange(GROUPS)
    _, cost, _ = tables(3)
    limit = np.median(cost[rows, EVERY].sum(axis=1))
    field = landscape(3, feasible=lambda codes: cost[rows, codes].sum(axis=1) <= limit)
    start = additive_front(3)
    found = refine(start[cost[rows, start].sum(axis=1) <= limit], field)
    assert len(found.codes)
    assert (found.cost <= limit).all()


@pytest.mark.parametrize("pairs", [1, 8])
def test_pairs_cost_no_more_than_where_they_start(pairs):
    from search.solvers.refine import _pairs

    field = landscape(5)
    codes = np.ones(GROUPS, dtype=int)
    single = neighbours(codes, field.sizes)
    gain = field.loss(single) - field.loss(codes[None])
    extra = field.cost(single) - field.cost(codes[None])
    found = _pairs(codes, single, gain, extra, pairs)
    assert 0 < len(found) <= pairs
    assert ((found != codes).sum(axis=1) == 2).all()
    assert (field.cost(found) <= field.cost(codes[None]) + 1e-9).all()
