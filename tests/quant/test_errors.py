import pickle

import pytest

from quant import errors


def test_message_has_all_parts_in_order():
    error = errors.UsageError("unknown x 'y'", where="conf.x", expected="z", fix="write z")
    assert str(error).splitlines() == [
        "unknown x 'y'",
        "  at: conf.x",
        "  expected: z",
        "  fix: write z",
    ]


def test_empty_parts_are_left_out():
    assert str(errors.DataError("no data")) == "no data"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.BitfrontError, 1),
        (errors.UsageError, 2),
        (errors.InfeasibleError, 3),
        (errors.DataError, 4),
        (errors.ProfileError, 5),
        (errors.TooFewError, 6),
    ],
)
def test_exit_codes_are_the_documented_ones(kind, code):
    assert kind.exit_code == code
    assert issubclass(kind, errors.BitfrontError)


def test_survives_a_process_border():
    error = errors.ProfileError("old table", where="profile.json", expected="v1", fix="rebuild")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is errors.ProfileError
    assert str(copy) == str(error)
    assert (copy.where, copy.fix) == ("profile.json", "rebuild")


def test_nearest_finds_a_typo_and_nothing_far_away():
    assert errors.nearest("percentil", ["minmax", "percentile"]) == "did you mean 'percentile'?"
    assert errors.nearest("zzz", ["minmax", "percentile"]) == ""


def test_unknown_lists_the_names_and_suggests_one():
    error = errors.unknown("calibrator", "min_max", ["mse", "minmax"], where="method")
    assert isinstance(error, errors.UsageError)
    assert error.what == "unknown calibrator 'min_max'"
    assert error.expected == "one of: minmax, mse"
    assert error.fix == "did you mean 'minmax'?"
    assert "choose one" in errors.unknown("calibrator", "q", ["mse"]).fix
