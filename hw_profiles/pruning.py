"""Choices that gain nothing on a device: slower and not smaller than one at least as precise."""

from __future__ import annotations

from dataclasses import replace

from hw_profiles.cost import CostModel
from spaces.choices import Choice
from spaces.space import Cut, Group, SearchSpace

CLEAR = 0.02
"""Relative difference in latency that counts; tables are not more exact than that."""


def without_losers(space: SearchSpace, costs: CostModel) -> SearchSpace:
    """The space without choices another one beats in every respect, each recorded as a cut.

    A choice goes when another choice of its group has at least as many weight and activation
    bits, is no larger and clearly faster. Fixed groups and baseline-only choices stay.
    """
    latency, size = costs.table("latency_ms"), costs.table("size_bytes")
    cuts: list[Cut] = []
    groups: list[Group] = []
    for row, group in enumerate(space.groups):
        kept = []
        for code, choice in enumerate(group.choices):
            better = next(
                (
                    other
                    for rival, other in enumerate(group.choices)
                    if _at_least_as_precise(other, choice)
                    and size[row, rival] <= size[row, code]
                    and latency[row, rival] < latency[row, code] * (1 - CLEAR)
                ),
                None,
            )
            if better is None:
                kept.append(choice)
            else:
                reason = f"slower and not smaller than {better.label} on this device"
                cuts += [Cut(name, choice.text, reason) for name in group.layers]
        groups.append(replace(group, choices=tuple(kept), extra=_extra(group, kept)))
    if not cuts:
        return space
    return replace(space, groups=tuple(groups), cuts=(*space.cuts, *cuts))


def _extra(group: Group, kept: list[Choice]) -> tuple[Choice, ...]:
    """Baselines that were searchable stay available to baselines."""
    float_or_int8 = [
        choice
        for choice in group.choices
        if choice not in kept and choice.weight.bits in (8, 32) and choice.weight.bits >= 8
    ]
    return (*group.extra, *float_or_int8)


def _at_least_as_precise(first: Choice, second: Choice) -> bool:
    """Whether ``first`` has as many bits as ``second`` in weight and activation."""
    return (
        first != second
        and first.weight.bits >= second.weight.bits
        and first.activation.bits >= second.activation.bits
    )
