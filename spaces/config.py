r"""The declarative form of a search space, as written in ``conf/space/*.yaml``.

Example::

    name: w2348
    weights: [int2src, int3src, int4src, int8src]   # weight formats
    activations: [int8ut]                           # activation formats; choices = all pairs
    rules:                                          # later rules win
      - {position: first, choices: [int8src/int8ut]}
      - {name: 'blocks\\.0\\..*', weights: [int4src, int8src]}
    ties: [['.*query', '.*key']]                    # layers matching any pattern of a list agree
    auto_ties: {shared_weights: true, same_input_linear: true, residual: false}
    constraints: [{size_bytes: 0.25x}]
    kernels_only: false
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from quant.errors import UsageError, nearest
from quant.formats import Timing, parse_format
from spaces.choices import Choice, parse_choice
from spaces.constraints import Constraint, parse_constraints
from spaces.layers import OPS, LayerSpec

POSITIONS = ("first", "last")


@dataclass(frozen=True)
class AutoTies:
    """Ties found from the traced graph.

    Attributes:
        shared_weights: layers holding the very same weight tensor.
        same_input_linear: linear layers reading the very same tensor (query, key and value),
            which runtimes fuse into one product.
        same_input_conv: convolutions reading the very same tensor (the first convolution and the
            projection of a residual unit), so that it is quantized once; HAWQ-V3 (arXiv
            2011.10680) ties them.
        residual: layers whose outputs meet in one addition; integer-only deployments that add
            in the layers' own bit-width need it.
    """

    shared_weights: bool = True
    same_input_linear: bool = True
    same_input_conv: bool = False
    residual: bool = False


@dataclass(frozen=True)
class Rule:
    """Replaces the choices of the layers it matches.

    Attributes:
        choices: what matching layers may take.
        name: regular expression found in the layer name, or empty.
        op: op name, or empty.
        position: ``"first"`` or ``"last"`` layer in execution order, or empty.
        depthwise: match depthwise convolutions only (True), others only (False), or any (None).
        where: place in the configuration, for messages.
    """

    choices: tuple[Choice, ...]
    name: str = ""
    op: str = ""
    position: str = ""
    depthwise: bool | None = None
    where: str = ""

    def matches(self, layer: LayerSpec, count: int) -> bool:
        """Whether this rule speaks of ``layer``, one of ``count``."""
        return (
            (not self.name or re.search(self.name, layer.name) is not None)
            and (not self.op or layer.op == self.op)
            and (self.position != "first" or layer.index == 0)
            and (self.position != "last" or layer.index == count - 1)
            and (self.depthwise is None or layer.is_depthwise == self.depthwise)
        )


@dataclass(frozen=True)
class SpaceConfig:
    """A search space before it meets a model.

    Attributes:
        name: name of the space.
        choices: what a layer may take unless a rule says otherwise.
        rules: exceptions, later ones win.
        ties: lists of regular expressions; layers matching any of one list take one choice.
        auto_ties: ties found from the graph.
        constraints: hard limits.
        kernels_only: drop choices the device has no kernel for, instead of counting what they
            unpack to.
    """

    name: str
    choices: tuple[Choice, ...]
    rules: tuple[Rule, ...] = ()
    ties: tuple[tuple[str, ...], ...] = ()
    auto_ties: AutoTies = AutoTies()
    constraints: tuple[Constraint, ...] = ()
    kernels_only: bool = False

    @staticmethod
    def from_dict(data: Mapping[str, Any], where: str = "space") -> SpaceConfig:
        """Reads plain data.

        Raises:
            UsageError: unknown key (nearest match), bad format, bad regular expression, no choice.
        """
        if not isinstance(data, Mapping):
            raise UsageError(f"{where} is {data!r}", where=where, expected="a mapping of keys")
        known = ("name", *CHOICE_KEYS, *(f.name for f in fields(SpaceConfig)))
        _only(data, known, where)
        return SpaceConfig(
            name=str(data.get("name", "unnamed")),
            choices=_choices(data, where),
            rules=tuple(_rule(item, at) for at, item in _items(data, "rules", where)),
            ties=tuple(_patterns(item, at) for at, item in _items(data, "ties", where)),
            auto_ties=_auto_ties(data.get("auto_ties") or {}, f"{where}.auto_ties"),
            constraints=parse_constraints(data.get("constraints") or [], f"{where}.constraints"),
            kernels_only=_flag(data.get("kernels_only", False), f"{where}.kernels_only"),
        )


CHOICE_KEYS = ("choices", "weights", "activations")
MATCH_KEYS = ("name", "op", "position", "depthwise")


def _choices(data: Mapping[str, Any], where: str) -> tuple[Choice, ...]:
    """``choices`` as texts, or all pairs of ``weights`` and ``activations``."""
    if "choices" in data:
        if "weights" in data or "activations" in data:
            raise UsageError(
                f"{where} has both choices and weights or activations",
                where=where,
                fix="keep one of the two forms",
            )
        found = [parse_choice(text) for text in _texts(data["choices"], f"{where}.choices")]
    else:
        weights = _texts(data.get("weights", []), f"{where}.weights")
        activations = _texts(data.get("activations", ["float32"]), f"{where}.activations")
        found = [
            Choice(parse_format(weight), parse_format(activation))
            for activation in activations
            for weight in weights
        ]
    if not found:
        raise UsageError(
            f"{where} offers no choice",
            where=where,
            expected="choices, or weights and activations, with at least one format",
        )
    for choice in found:
        if choice.weight.timing is Timing.DYNAMIC:
            raise UsageError(
                f"weight format '{choice.weight}' is dynamic; weights do not change at run time",
                where=where,
                fix="drop '@dynamic' there; it belongs to activations",
            )
    return tuple(dict.fromkeys(found))


def _rule(item: Any, where: str) -> Rule:
    if not isinstance(item, Mapping):
        raise UsageError(f"{where} is {item!r}", where=where, expected="a mapping of keys")
    _only(item, (*MATCH_KEYS, *CHOICE_KEYS), where)
    if not any(key in item for key in MATCH_KEYS):
        raise UsageError(
            f"{where} matches nothing",
            where=where,
            expected=f"at least one of: {', '.join(MATCH_KEYS)}",
        )
    op, position = str(item.get("op", "")), str(item.get("position", ""))
    for value, allowed, key in ((op, OPS, "op"), (position, POSITIONS, "position")):
        if value and value not in allowed:
            raise UsageError(
                f"{where}.{key} is '{value}'",
                where=f"{where}.{key}",
                expected=f"one of: {', '.join(allowed)}",
                fix=nearest(value, allowed),
            )
    depthwise = item.get("depthwise")
    return Rule(
        _choices(item, where),
        _pattern(item.get("name", ""), f"{where}.name"),
        op,
        position,
        None if depthwise is None else _flag(depthwise, f"{where}.depthwise"),
        where,
    )


def _auto_ties(data: Any, where: str) -> AutoTies:
    if not isinstance(data, Mapping):
        raise UsageError(f"{where} is {data!r}", where=where, expected="a mapping of keys")
    _only(data, [f.name for f in fields(AutoTies)], where)
    return AutoTies(**{key: _flag(value, f"{where}.{key}") for key, value in data.items()})


def _only(data: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in data:
        if key not in known:
            raise UsageError(
                f"unknown key '{key}' in {where}",
                where=f"{where}.{key}",
                expected=f"one of: {', '.join(sorted(set(known)))}",
                fix=nearest(str(key), known) or "remove it",
            )


def _items(data: Mapping[str, Any], key: str, where: str) -> list[tuple[str, Any]]:
    """Entries of a list, each with its place."""
    items = data.get(key) or []
    if isinstance(items, str | Mapping) or not isinstance(items, Sequence):
        raise UsageError(f"{where}.{key} is {items!r}", where=f"{where}.{key}", expected="a list")
    return [(f"{where}.{key}[{i}]", item) for i, item in enumerate(items)]


def _texts(items: Any, where: str) -> list[str]:
    if isinstance(items, str) or not isinstance(items, Sequence):
        raise UsageError(f"{where} is {items!r}", where=where, expected="a list of formats")
    for item in items:
        if not isinstance(item, str):
            raise UsageError(
                f"{where} holds {item!r}",
                where=where,
                expected="format texts such as int4src",
                fix=f"write int{item}src" if isinstance(item, int) else "",
            )
    return list(items)


def _patterns(items: Any, where: str) -> tuple[str, ...]:
    listed = [items] if isinstance(items, str) else items
    if not isinstance(listed, Sequence):
        raise UsageError(f"{where} is {items!r}", where=where, expected="a list of patterns")
    return tuple(_pattern(item, where) for item in listed)


def _pattern(value: Any, where: str) -> str:
    try:
        re.compile(str(value))
    except re.error as cause:
        raise UsageError(f"'{value}' is not a regular expression: {cause}", where=where) from cause
    return str(value)


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{where} is {value!r}", where=where, expected="true or false")
    return value
