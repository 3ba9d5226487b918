import json
import math
import subprocess
import sys

import numpy as np
import pytest

from search.benches import front
from search.solvers.front_dp import solve_front
from search.solvers.problem import from_tables


@pytest.fixture
def small(monkeypatch):
    """The same suite on tables of a sixth of the size, each timed once."""
    for name in ("grid_tables", "ladder_tables"):
        make = getattr(front, name)
        monkeypatch.setattr(
            front, name, lambda rng, g, c, make=make: make(rng, max(2, g // 6), min(c, 4))
        )
    for name, value in (("ROUNDS", 1), ("LARGE_ROUNDS", 1), ("BUDGETS", 2), ("ENUMERATED", 5)):
        monkeypatch.setattr(front, name, value)


def test_every_figure_is_named_once_and_serialises(small):
    figures = list(front.run({"ignored": True}))
    names = [(item.case, item.metric) for item in figures]
    assert len(set(names)) == len(names)
    assert {"53x16/ladder", "300x8/default", "up to 8x4"} <= {case for case, _ in names}
    for item in figures:
        assert json.loads(item.to_json())["suite"] == "front"
        assert math.isfinite(item.value)


def test_bars_on_answers_are_met_at_any_size(small):
    bars = {"equal_to_enumeration", "guarantee", "error", "cbc_disagrees", "highs_disagrees"}
    answers = [item for item in front.run({}) if item.metric in bars and item.bar is not None]
    assert {item.metric for item in answers} == bars
    assert all(item.met for item in answers)


def test_extra_cost_is_the_largest_detour():
    exact = solve_front(from_tables(np.array([[3.0, 2.0, 0.0]]), [np.array([[1.0, 2.0, 4.0]])]))
    coarse = solve_front(from_tables(np.array([[3.0, 0.0]]), [np.array([[1.0, 4.0]])]))
    # A score of 2 costs 2 on the exact front and 4 on the coarse one.
    assert front._extra_cost(coarse, exact) == 2.0
    assert front._extra_cost(exact, exact) == 0.0


def test_ladder_tables_have_no_dominated_choice():
    problem = front.ladder_tables(np.random.default_rng(0), 5, 6)
    assert (np.diff(problem.costs[0].table, axis=1) > 0).all()
    assert (np.diff(problem.score, axis=1) < 0).all()


def test_grid_tables_have_all_pairs_of_widths():
    problem = front.grid_tables(np.random.default_rng(0), 7, 16)
    assert problem.score.shape == (7, 16)
    assert (problem.score > 0).all()


def test_the_suite_needs_no_torch():
    code = "import sys, search.benches.front; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
