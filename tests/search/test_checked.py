from dataclasses import dataclass

import pytest

from quant.errors import UsageError
from search.checked import from_mapping


@dataclass(frozen=True)
class Inner:
    size: int = 1


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 0.5
    limit: int | None = None
    tags: tuple[str, ...] = ()
    inner: Inner = Inner()
    flag: bool = False


def test_values_arrive_with_their_types():
    made = from_mapping(
        Outer, {"name": "a", "rate": 2, "tags": ["x"], "inner": {"size": 3}, "limit": None}, "o"
    )
    assert made == Outer("a", 2.0, None, ("x",), Inner(3))
    assert isinstance(made.rate, float)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "a", "rat": 1}, "unknown key 'rat' in o\n  at: o.rat\n.*did you mean 'rate'"),
        ({"rate": 1.0}, "o.name is missing"),
        ({"name": 3}, "o.name is 3\n  at: o.name\n  expected: text"),
        ({"name": "a", "rate": "fast"}, "o.rate is 'fast'\n  at: o.rate\n  expected: a number"),
        ({"name": "a", "rate": float("nan")}, "o.rate is nan\n.*\n  expected: a finite number"),
        ({"name": "a", "limit": 1.5}, "o.limit is 1.5\n.*\n  expected: an integer"),
        ({"name": "a", "limit": True}, "o.limit is True\n.*\n  expected: an integer"),
        ({"name": "a", "tags": "x"}, "o.tags is 'x'\n.*\n  expected: a list"),
        ({"name": "a", "inner": {"sise": 1}}, "unknown key 'sise' in o.inner"),
        ({"name": "a", "flag": "yes"}, "o.flag is 'yes'\n.*\n  expected: true or false"),
        ("text", "o is 'text'\n.*\n  expected: a mapping of keys"),
    ],
)
def test_messages_name_place_and_expectation(data, message):
    with pytest.raises(UsageError, match=f"(?s){message}"):
        from_mapping(Outer, data, "o")
