"""Tie groups: which layers must take the same choice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from quant.errors import UsageError, nearest
from spaces.config import AutoTies
from spaces.inventory import TracedModel


def tie_groups(
    traced: TracedModel, ties: Sequence[Sequence[str]], auto: AutoTies
) -> tuple[tuple[str, ...], ...]:
    """Partitions the layers into groups, both in execution order.

    Args:
        traced: the inventory.
        ties: lists of regular expressions; layers matching any of one list are tied.
        auto: which automatic ties apply.

    Raises:
        UsageError: a pattern matches no layer.
    """
    names = [layer.name for layer in traced.layers]
    sets: list[Iterable[str]] = [_matching(patterns, names, i) for i, patterns in enumerate(ties)]
    sets += traced.shared if auto.shared_weights else ()
    sets += traced.same_input if auto.same_input_linear else ()
    sets += traced.same_input_conv if auto.same_input_conv else ()
    sets += traced.residual if auto.residual else ()
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    order = {name: i for i, name in enumerate(names)}
    for members in sets:
        roots = sorted({root(name) for name in members}, key=order.__getitem__)
        parent.update(dict.fromkeys(roots, roots[0]))
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(root(name), []).append(name)
    return tuple(tuple(members) for members in grouped.values())


def _matching(patterns: Sequence[str], names: Sequence[str], index: int) -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        hits = [name for name in names if re.fullmatch(pattern, name)]
        if not hits:
            raise UsageError(
                f"tie '{pattern}' matches no layer",
                where=f"space.ties[{index}]",
                expected="a regular expression for whole layer names",
                fix=nearest(pattern, names) or f"layers are for example {', '.join(names[:3])}",
            )
        found += hits
    return found
