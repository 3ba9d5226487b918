"""Bringing a policy within a budget as HAQ does: sweeps from the last layer to the first.

Wang et al., arXiv 1811.08886, as their code does it: while the cost is above the limit, layers
are visited from the last to the first; each gives up one step of its inputs' width, then one of
its weights', and the cost is looked at after every single step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

State = TypeVar("State")
Lower = Callable[[int, State], State | None]
"""One step down for a layer, or None at its end."""


def budget_sweep(
    states: Sequence[State],
    cost: Callable[[Sequence[State]], float],
    limit: float,
    steps: Sequence[Lower[State]],
) -> tuple[list[State], int]:
    """Lowers layers until the cost is at most ``limit`` or nothing can be lowered.

    Args:
        states: what each layer has, in order.
        cost: of all layers together.
        limit: inclusive.
        steps: ways to lower a layer, tried in this order (inputs first, then weights); a pinned
            layer's ways answer None.

    Returns:
        The layers' new states, and the number of sweeps begun.
    """
    found, sweeps = list(states), 0
    while cost(found) > limit:
        sweeps += 1
        moved = False
        for layer in range(len(found) - 1, -1, -1):
            for lower in steps:
                less = lower(layer, found[layer])
                if less is None:
                    continue
                found[layer], moved = less, True
                if cost(found) <= limit:
                    return found, sweeps
        if not moved:
            break
    return found, sweeps
