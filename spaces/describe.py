"""The resolved space as text: what may be chosen, what was cut, and why."""

from __future__ import annotations

import math
from collections import Counter
from itertools import groupby

from spaces.space import Group, SearchSpace

NAME_WIDTH = 44
CUTS_SHOWN = 8


def describe(space: SearchSpace) -> str:
    """A table of groups and choices, readable for 60 layers; equal neighbours share a line."""
    rows = []
    for _, run in groupby(space.groups, key=lambda g: (_choices(g), _ops(space, g))):
        members = list(run)
        rows.append(
            (
                _names(members),
                _ops(space, members[0]),
                str(sum(len(group.layers) for group in members)),
                _choices(members[0]),
            )
        )
    header = ("layer or range", "op", "layers", "choices")
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(4)]
    lines = [
        f"space   {space.name}: {len(space.layers)} layers in {len(space.groups)} groups, "
        f"{_count(space.cardinality)} policies"
    ]
    for row in [header, *rows]:
        cells = (c.ljust(w) for c, w in zip(row, widths, strict=True))
        lines.append("  " + "  ".join(cells).rstrip())
    ties = [group for group in space.groups if len(group.layers) > 1]
    lines += [f"  tied: {' = '.join(group.layers)}" for group in ties]
    lines += _skipped_lines(space)
    lines += _cut_lines(space)
    return "\n".join(lines)


def _names(groups: list[Group]) -> str:
    first, last = groups[0].name, groups[-1].name
    text = first if first == last else f"{first} .. {last}"
    return text if len(text) <= NAME_WIDTH else f"{text[: NAME_WIDTH - 1]}…"


def _ops(space: SearchSpace, group: Group) -> str:
    return "+".join(dict.fromkeys(space.layer_named[name].op for name in group.layers))


def _choices(group: Group) -> str:
    labels = [choice.label for choice in group.choices]
    texts = labels if len(set(labels)) == len(labels) else [c.text for c in group.choices]
    return " | ".join(texts) + (" (fixed)" if group.is_fixed else "")


def _count(number: int) -> str:
    if number < 10**7:
        return f"{number:,}"
    exponent = math.floor(math.log10(number))  # a float would overflow on deep models
    return f"{number / 10**exponent:.1f}e+{exponent:02}"


def _skipped_lines(space: SearchSpace) -> list[str]:
    names: dict[tuple[str, str], list[str]] = {}
    for item in space.skipped:
        names.setdefault((item.op, item.reason), []).append(item.name)
    return [
        f"  skipped: {len(found)} x {op} ({found[0]}{', …' if len(found) > 1 else ''}): {why}"
        for (op, why), found in names.items()
    ]


def _cut_lines(space: SearchSpace) -> list[str]:
    counted = Counter((cut.choice, cut.reason) for cut in space.cuts)
    lines = [f"  cut: {c} of {n} layers: {why}" for (c, why), n in counted.most_common(CUTS_SHOWN)]
    more = len(counted) - CUTS_SHOWN
    return lines + ([f"  cut: {more} more kinds"] if more > 0 else [])
