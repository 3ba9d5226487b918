import json

import numpy as np
import pytest

from quant.errors import DataError
from search.tabulated.nets import DATA, NETS
from search.tabulated.table import Table
from tests.support.toy import ToyCosts, ToyJudge, toy_space

SPACE = toy_space(groups=3, choices=3)
COSTS = ToyCosts(SPACE)
JUDGE = ToyJudge(SPACE)
EVERY = np.array(list(np.ndindex(3, 3, 3)))


def arrays(**changes):
    ce = np.array([JUDGE.loss(codes) for codes in EVERY])
    content = {
        "space": np.array(json.dumps(SPACE.to_json())),
        "cost_metric": np.array("size_bytes"),
        "cost": COSTS.table("size_bytes"),
        "ce": ce,
        "float_ce": np.array(float(ce.max())),
    }
    content |= changes
    return {name: value for name, value in content.items() if value is not None}


def saved(folder, **changes):
    np.savez(folder / "toy.npz", **arrays(**changes))
    return folder / "toy.npz"


@pytest.fixture
def table(tmp_path):
    return Table.load(saved(tmp_path))


def test_every_policy_is_answered_with_its_own_quality(table):
    for codes in EVERY:
        (result,) = table.evaluate([table.space.policy(codes)])
        assert result.ce == JUDGE.loss(codes)
        assert result.ok


def test_index_and_every_are_inverse(table):
    assert (table.every == EVERY).all()
    assert (table.index(table.every) == np.arange(27)).all()


def test_keys_tell_policies_apart(table):
    keys = {table.key(table.space.policy(codes)) for codes in EVERY}
    assert len(keys) == 27


def test_all_policies_together_have_the_whole_hypervolume(table):
    assert table.share(range(27)) == 1.0
    assert table.share([]) == 0.0


def test_one_policy_has_the_share_of_its_rectangle(table):
    loss, cost = table.points[13]
    area = (table.reference[0] - loss) * (table.reference[1] - cost)
    assert table.share([13]) == pytest.approx(area / table.optimum)


def test_the_reference_lies_at_a_stated_multiple_of_the_float_loss(table):
    costs = table.points[:, 1]
    assert table.reference[0] == pytest.approx(1.5 * table.float_ce)
    assert table.reference[1] == pytest.approx(costs.max() + 0.05 * np.ptp(costs))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ce": None}, "table toy.npz lacks ce"),
        ({"ce": np.zeros(26)}, r"'ce' of table toy.npz has shape (26,)"),
        ({"kl": np.zeros(3)}, r"'kl' of table toy.npz has shape (3,)"),
        ({"cost": np.zeros((2, 3))}, "'cost' of table toy.npz has shape (2, 3)"),
        ({"cost": np.full((3, 4), np.nan)}, "is not finite for every offered choice"),
    ],
)
def test_a_damaged_table_is_refused_and_the_array_named(tmp_path, changes, message):
    with pytest.raises(DataError) as caught:
        Table.load(saved(tmp_path, **changes))
    assert message in str(caught.value)


def test_a_missing_file_and_a_pickle_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        Table.load(tmp_path / "nowhere.npz")
    np.savez(tmp_path / "toy.npz", **arrays(ce=np.array([object()])))
    with pytest.raises(DataError, match="without pickled objects"):
        Table.load(tmp_path / "toy.npz")


def test_the_shipped_tables_are_whole_and_small():
    paths = sorted(DATA.glob("*.npz"))
    assert len(paths) == 2 * len(NETS)
    for path in paths:
        table = Table.load(path)
        assert len(table.ce) == 4**7
        assert np.isfinite(table.points).all()
        assert table.optimum > 0
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 3e6
