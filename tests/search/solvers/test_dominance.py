import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.solvers.dominance import nondominated, screen, thin


def by_definition(points):
    """First of each set of equal columns that no other column dominates."""
    keep = []
    for i, point in enumerate(points.T):
        below = (points <= point[:, None]).all(axis=0)
        equal = (points == point[:, None]).all(axis=0)
        if not (below & ~equal).any() and np.flatnonzero(equal)[0] == i:
            keep.append(i)
    return keep


def grid_points(rows):
    column = st.tuples(*[st.integers(0, 6)] * rows)
    return st.lists(column, min_size=1, max_size=40).map(lambda c: np.array(c, dtype=np.int64).T)


@pytest.mark.parametrize("rows", [2, 3, 4, 5])
def test_a_chain_keeps_its_bottom_and_an_antichain_everything(rows):
    steps = np.arange(20)
    assert nondominated(np.tile(steps, (rows, 1))).tolist() == [0]
    opposed = np.stack([steps] * (rows - 1) + [-steps])
    assert nondominated(opposed).tolist() == steps.tolist()


@pytest.mark.parametrize("rows", [2, 3, 4])
@given(st.data())
def test_nondominated_is_the_definition(rows, data):
    points = data.draw(grid_points(rows))
    found = nondominated(points)
    assert sorted(found) == by_definition(points)
    assert (np.diff(points[0, found]) >= 0).all()


@pytest.mark.parametrize("rows", [3, 4])
def test_larger_clouds_agree_with_the_definition(rows):
    # Beyond one block and an odd number of levels.
    points = np.random.default_rng(rows).integers(0, 60, (rows, 700))
    assert sorted(nondominated(points)) == by_definition(points)


def staircase(rng, n):
    return np.stack([np.sort(rng.integers(0, 50, n)), -np.sort(-rng.integers(0, 50, n)[::-1])])


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_screening_never_changes_what_survives(seed, count):
    rng = np.random.default_rng(seed)
    runs = [
        np.stack([np.sort(rng.integers(0, 50, 9)), -np.sort(rng.integers(0, 50, 9))])
        for _ in range(count)
    ]
    kept = screen(runs)
    everything = np.concatenate(runs, axis=1)
    positions = np.concatenate([9 * i + some for i, some in enumerate(kept)])
    survivors = positions[nondominated(everything[:, positions])]
    assert survivors.tolist() == nondominated(everything).tolist()


def test_screening_drops_what_is_far_from_the_front():
    near = np.stack([np.arange(100), -np.arange(100)])
    far = near + 1000
    kept = screen([near, far])
    assert len(kept[0]) == 100
    assert len(kept[1]) == 0


def test_thinning_keeps_both_ends_of_each_box():
    points = np.array([[0, 1, 2, 3, 10, 11], [9, 8, 7, 6, 5, 4]])
    kept, lost = thin(points, np.array([4]))
    assert kept.tolist() == [0, 3, 4, 5]
    # The best of the first box costs 3, the cheapest dropped point 1.
    assert lost.tolist() == [2]


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(0, 40))
def test_every_dropped_point_has_a_kept_one_within_the_loss(seed, costs, width):
    rng = np.random.default_rng(seed)
    cloud = rng.integers(0, 100, (costs + 1, 80))
    points = cloud[:, nondominated(cloud)]
    widths = np.full(costs, width)
    kept, lost = thin(points, widths)
    assert (lost <= np.maximum(widths - 1, 0)).all()
    for point in points.T:
        near = points[:-1, kept] <= (point[:-1] + lost)[:, None]
        assert (near.all(axis=0) & (points[-1, kept] <= point[-1])).any()
    for row in points[:-1]:
        assert row[kept].min() == row.min()
