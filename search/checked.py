"""Plain configuration data to frozen dataclasses, with messages a person can act on."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from quant.errors import UsageError, nearest

T = TypeVar("T")


def from_mapping(kind: type[T], data: Any, where: str) -> T:
    """Builds dataclass ``kind`` from ``data``, checking every key and type.

    Supported field types: bool, int, float, str, tuples of them, ``X | None``, ``dict`` and
    nested dataclasses.

    Args:
        kind: a dataclass type.
        data: what the configuration holds at ``where``.
        where: configuration path for messages, for example ``"budget"``.

    Raises:
        UsageError: unknown key (with the nearest match), missing key, wrong type, not finite.
    """
    if not isinstance(data, Mapping):
        raise UsageError(f"{where} is {_show(data)}", where=where, expected="a mapping of keys")
    assert dataclasses.is_dataclass(kind)
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
    for key in data:
        if key not in fields:
            raise UsageError(
                f"unknown key '{key}' in {where}",
                where=f"{where}.{key}",
                expected=f"one of: {', '.join(sorted(fields))}",
                fix=nearest(str(key), fields) or "remove it",
            )
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _value(hints[name], data[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UsageError(f"{where}.{name} is missing", where=where, fix=f"set {where}.{name}")
    return kind(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _value(next(a for a in args if a is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise _wrong(value, where, "a list")
        return tuple(_value(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast(type, hint), value, where)
    if origin in (dict, Mapping) or hint is dict:
        if not isinstance(value, Mapping):
            raise _wrong(value, where, "a mapping of keys")
        return dict(value)
    return _scalar(hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise _wrong(value, where, "a finite number")
        return float(value)
    if hint is int and isinstance(value, bool):
        raise _wrong(value, where, "an integer")
    if isinstance(value, hint):
        return value
    names = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
    raise _wrong(value, where, names.get(hint, str(hint)))


def _wrong(value: Any, where: str, expected: str) -> UsageError:
    return UsageError(f"{where} is {_show(value)}", where=where, expected=expected)


def _show(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)


def require(condition: bool, what: str, *, where: str, expected: str = "", fix: str = "") -> None:
    """Raises UsageError with the given words unless ``condition`` holds."""
    if not condition:
        raise UsageError(what, where=where, expected=expected, fix=fix)
