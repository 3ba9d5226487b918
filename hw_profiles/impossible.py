"""Table entries that cannot be: what a reader refuses before it counts with them."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from quant.errors import ProfileError

if TYPE_CHECKING:
    from hw_profiles.profile import Entry, NodeEntry

PROVENANCES = ("measured", "interpolated", "simulated", "published")
TIMES = ("latency_ms", "spread", "reference_ms", "wall_ratio")
OPTIONAL = ("resident_ms", "energy_mj")


def check_entries(entries: tuple[Entry, ...], where: str) -> None:
    """Refuses impossible numbers, unknown provenances and keys that occur twice.

    Raises:
        ProfileError: names the first bad entry; ``where`` is the table's name.
    """
    for entry in entries:
        _check_entry(entry, where)
    counts = Counter(entry.key for entry in entries)
    twice = [key for key, count in counts.items() if count > 1]
    if twice:
        raise ProfileError(
            f"latency table has {len(twice)} duplicate keys, the first is {twice[0]}",
            where=where,
            expected="one entry per key",
            fix="remove the older of the two rows",
        )


def check_times(entry: Entry | NodeEntry, what: str, where: str) -> None:
    """Refuses numbers that are negative, NaN or infinite.

    Raises:
        ProfileError: names the number and ``what`` it is of.
    """
    known = [name for name in OPTIONAL if getattr(entry, name, None) is not None]
    for name in (*TIMES, *known):
        value = getattr(entry, name)
        if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise ProfileError(
                f"{name} is {value} for {what}",
                where=where,
                expected="a finite number, not negative",
                fix="measure the entry again, or remove the row",
            )


def _check_entry(entry: Entry, where: str) -> None:
    check_times(entry, str(entry.key), where)
    if entry.provenance not in PROVENANCES:
        raise ProfileError(
            f"provenance '{entry.provenance}' of {entry.key} is unknown",
            where=where,
            expected=f"one of: {', '.join(PROVENANCES)}",
        )
