"""The order in which points of a front are evaluated."""

from __future__ import annotations

from collections import deque


def bisection_order(n: int) -> list[int]:
    """Indices ``0..n-1``: both ends first, then middles of ever smaller intervals.

    Any prefix of the order spreads over the whole range, so a budget may end anywhere.
    """
    if n <= 2:
        return list(range(n))
    order = [0, n - 1]
    intervals = deque([(0, n - 1)])
    while intervals:
        low, high = intervals.popleft()
        if high - low < 2:
            continue
        middle = (low + high) // 2
        order.append(middle)
        intervals += [(low, middle), (middle, high)]
    return order
