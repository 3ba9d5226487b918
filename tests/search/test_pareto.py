import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.pareto import (
    anytime_hypervolume,
    front_indices,
    hypervolume,
    knee_index,
    normalised_hypervolume,
)

ONE = np.ones(2)


def staircase(n):
    """n points on the diagonal of a grid of side n."""
    return np.array([(i, n - 1 - i) for i in range(n)], dtype=float)


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_hypervolume_of_a_staircase_is_the_triangle_number(n):
    assert hypervolume(staircase(n), np.array([n, n])) == n * (n + 1) / 2


def test_hypervolume_ignores_points_on_or_beyond_the_reference():
    points = np.array([[0.5, 0.5], [1.0, 0.0], [0.0, 2.0], [np.nan, 0.0]])
    assert hypervolume(points, ONE) == 0.25


def test_no_points_have_no_hypervolume():
    assert hypervolume(np.empty((0, 2)), ONE) == 0.0


grid_points = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30
).map(lambda items: np.array(items, dtype=float))


@given(grid_points)
def test_hypervolume_equals_counting_dominated_cells(points):
    cells = sum(any((p <= (i, j)).all() for p in points) for i in range(10) for j in range(10))
    assert hypervolume(points, np.array([10, 10])) == cells


@given(grid_points)
def test_front_equals_brute_force(points):
    kept = front_indices(points)
    for i, p in enumerate(points):
        dominated = any((q <= p).all() and (q < p).any() for q in points)
        duplicate = any((points[j] == p).all() for j in range(i))
        assert (i in kept) == (not dominated and not duplicate)
    assert (np.diff(points[kept, 0]) > 0).all()


@given(grid_points)
def test_anytime_hypervolume_equals_recomputing_every_prefix(points):
    low, high = np.zeros(2), np.full(2, 10.0)
    curve = anytime_hypervolume(points, low, high)
    expected = [normalised_hypervolume(points[: k + 1], low, high) for k in range(len(points))]
    np.testing.assert_allclose(curve, expected)
    assert (np.diff(curve) >= 0).all()


def test_normalised_hypervolume_of_the_ideal_is_one():
    assert normalised_hypervolume(np.array([[2.0, 3.0]]), np.array([2, 3]), np.array([4, 9])) == 1
    beyond = np.array([[1.0, 1.0]])
    assert normalised_hypervolume(beyond, np.array([2, 3]), np.array([4, 9])) == 1


def test_a_box_without_area_has_share_zero():
    assert normalised_hypervolume(np.array([[0.0, 0.0]]), ONE, ONE) == 0.0


def test_nan_is_never_nondominated():
    points = np.array([[np.nan, -1.0], [1.0, 1.0]])
    assert front_indices(points).tolist() == [1]


def test_knee_is_the_corner_of_an_l_shaped_front():
    points = np.array([[0, 10], [1, 1], [10, 0], [5, 5]], dtype=float)
    assert knee_index(points) == 1


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_knee_does_not_depend_on_units(scale):
    points = np.array([[0, 10], [2, 3], [4, 2.5], [10, 0]], dtype=float)
    assert knee_index(points * np.array([scale, 1.0])) == 1


def test_knee_of_one_point_is_that_point():
    assert knee_index(np.array([[3.0, 4.0]])) == 0
