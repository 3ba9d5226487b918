"""The published ResNet18 assignments of HAWQ-V3 (arXiv 2011.10680) from its own tables."""

import csv
import json
import math

import numpy as np
import pytest

from search.solvers.front_dp import solve_front
from search.solvers.ilp import Limit, solve
from search.solvers.problem import Cost, Problem
from tests.support.shared_data import shared_data

BITS = (4, 8)
# Each downsample convolution takes the bits of its unit's first one.
TIES = {6: 4, 11: 9, 16: 14}
COSTS = {
    "modelsize": lambda layer, bits: float(layer["params"]) * bits / 8 / 1e6,
    "bops": lambda layer, bits: float(layer["macs"]) * bits**2 / 1e9,
    "latency": lambda layer, bits: float(layer[f"lat_int{bits}"]),
}
SCHEMES = [f"{metric}_{ratio}" for metric in COSTS for ratio in (0.75, 0.5, 0.25)]


@pytest.fixture(scope="module")
def folder():
    return shared_data("hawq_v3")


@pytest.fixture(scope="module")
def layers(folder):
    with (folder / "resnet18_layers.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def published(folder):
    with (folder / "resnet18_published_weight_bits.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {scheme: [int(row[scheme]) for row in rows] for scheme in SCHEMES}


@pytest.fixture(scope="module")
def optima(folder):
    return json.loads((folder / "ilp_optima_resnet18.json").read_text())


def heads():
    return [i for i in range(19) if i not in TIES]


def grouped(layers, value):
    """``float[16, 2]``: each group's sum over its tied layers, for 4 and 8 bits."""
    rows = [[value(layer, bits) for bits in BITS] for layer in layers]
    members = [[h, *(tied for tied, head in TIES.items() if head == h)] for h in heads()]
    return np.array([np.sum([rows[m] for m in group], axis=0) for group in members])


def problem_for(layers, metric):
    score = grouped(
        layers, lambda row, b: float(row["hessian_trace_per_param"]) * float(row[f"dw_sq_int{b}"])
    )
    names = tuple(layers[head]["layer"] for head in heads())
    return Problem(score, (Cost(grouped(layers, COSTS[metric]), name=metric),), names)


def budget(problem, scheme):
    """All at 4 bits plus a ratio of the way to all at 8 bits."""
    table = problem.costs[0].table
    low, high = math.fsum(table[:, 0]), math.fsum(table[:, 1])
    return low + float(scheme.rsplit("_", 1)[1]) * (high - low)


def layer_bits(codes):
    by_head = dict(zip(heads(), (BITS[c] for c in codes), strict=True))
    return [by_head[TIES.get(i, i)] for i in range(19)]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_front_dp_reproduces_the_published_bits(layers, published, scheme):
    problem = problem_for(layers, scheme.rsplit("_", 1)[0])
    front = solve_front(problem)
    chosen = front.best([budget(problem, scheme)])
    assert layer_bits(front.policy(chosen)) == published[scheme]


@pytest.mark.parametrize("solver", ["cbc", "highs"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_ilp_reproduces_the_published_bits(layers, published, scheme, solver):
    problem = problem_for(layers, scheme.rsplit("_", 1)[0])
    limit = Limit(problem.costs[0], budget(problem, scheme))
    found = solve(problem.score, [limit], solver, problem.names)
    assert layer_bits(found.codes) == published[scheme]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_limits_and_usage_match_the_independent_solution(layers, optima, scheme):
    problem = problem_for(layers, scheme.rsplit("_", 1)[0])
    front = solve_front(problem)
    limit = budget(problem, scheme)
    chosen = front.best([limit])
    expected = optima[f"resnet18/{scheme}"]
    assert limit == pytest.approx(expected["limit"], rel=1e-9)
    assert front.cost[chosen, 0] == pytest.approx(expected["opt_usage"], rel=1e-9)
    # The notebook's objective counts from all layers at 4 bits.
    gain = front.score[chosen] - math.fsum(problem.score[:, 0])
    assert gain == pytest.approx(expected["opt_objective"], rel=1e-9)
