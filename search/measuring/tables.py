"""``bitfront-measure show``, ``compare`` and ``merge``: tables as text, and two as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quant.errors import UsageError
from search.stats import kendall_tau

if TYPE_CHECKING:
    from hw_profiles.profile import Profile

HEADER = (
    f"{'op':16s} {'input':20s} {'weight':18s} {'formats':26s} {'us':>9s} {'spread':>7s}  kernels"
)
SHOWN = 5


def show(words: Sequence[str]) -> str:
    """The table in a file, as text.

    Raises:
        UsageError: not one file.
        ProfileError: the file is no table.
    """
    (path,) = _files(words, 1, "show TABLE")
    return table_text(_load(path))


def compare(words: Sequence[str]) -> str:
    """What differs between two tables, entry by entry.

    Raises:
        UsageError: not two files.
        ProfileError: a file is no table.
    """
    first, second = (_load(path) for path in _files(words, 2, "compare A B"))
    return _differences(first, second)


def merge(words: Sequence[str]) -> str:
    """Writes one table of two, and tells how the two differed.

    Raises:
        UsageError: not three files, or the last one exists.
        ProfileError: a file is no table, or the two are not of one device and runtime.
    """
    first, second, target = _files(words, 3, "merge A B TO")
    if Path(target).exists():
        raise UsageError(
            f"'{target}' exists", expected="a new file", fix="name another, or remove it first"
        )
    older, newer = sorted((_load(first), _load(second)), key=lambda table: table.date)
    joined = older.joined(newer)
    joined.save(Path(target))
    return f"{_differences(older, newer)}\n{target}  {_title(joined)}"


def _differences(first: Profile, second: Profile) -> str:
    shared = [key for key in first.by_key if key in second.by_key]
    lines = [
        f"A  {_title(first)}",
        f"B  {_title(second)}",
        f"{len(shared)} entries in both, {len(first.entries) - len(shared)} only in A, "
        f"{len(second.entries) - len(shared)} only in B",
        *(f"device: {item}" for item in first.device.differences(second.device)),
    ]
    if not shared:
        return "\n".join(lines)
    a = np.array([first.by_key[key].latency_ms for key in shared])
    b = np.array([second.by_key[key].latency_ms for key in shared])
    low, middle, high = np.quantile(b / a, [0.05, 0.5, 0.95])
    lines.append(
        f"B / A: median {middle:.3f} (5 % to 95 %: {low:.3f} to {high:.3f}), "
        f"Kendall tau {kendall_tau(a, b):.3f}"
    )
    references = [
        float(np.median([table.by_key[key].reference_ms for key in shared]))
        for table in (first, second)
    ]
    if min(references) > 0:
        drift = references[1] / references[0]
        lines.append(f"reference kernel B / A: {drift:.3f}; corrected median {middle / drift:.3f}")
    odd = np.argsort(-np.abs(np.log(b / a / middle)))[:SHOWN]
    lines += [f"{b[i] / a[i]:8.3f}  {shared[i]}" for i in odd]
    return "\n".join(lines)


def table_text(profile: Profile) -> str:
    """One line per entry: op, shapes, formats, time, spread and the kernels seen."""
    lines = [_title(profile), HEADER]
    for entry in sorted(profile.entries, key=lambda item: str(item.key)):
        key = entry.key
        formats = f"{key.weight_format}/{key.activation_format}" if key.weight_format else ""
        mark = "" if entry.genuine else "  (storage only)"
        mark += "" if entry.provenance == "measured" else f"  ({entry.provenance})"
        lines.append(
            f"{key.op:16s} {_shape(key.input_shape):20s} {_shape(key.weight_shape):18s} "
            f"{formats:26s} {1000 * entry.latency_ms:9.2f} {100 * entry.spread:6.1f}%  "
            f"{'+'.join(entry.kernel_ops)}{mark}"
        )
    return "\n".join(lines)


def _title(profile: Profile) -> str:
    return (
        f"{profile.device.name}, {profile.runtime} {profile.runtime_version}, "
        f"{profile.threads} thread, {len(profile.entries)} entries [{profile.hash[:12]}]"
    )


def _shape(shape: Sequence[int]) -> str:
    return "x".join(str(size) for size in shape)


def _files(words: Sequence[str], count: int, usage: str) -> list[str]:
    if len(words) != count:
        raise UsageError(
            f"{len(words)} tables are named",
            where=f"bitfront-measure {usage.split()[0]}",
            expected=f"{count}",
            fix=f"bitfront-measure {usage}",
        )
    return list(words)


def _load(word: str) -> Profile:
    from hw_profiles.profile import load_profile
    from hw_profiles.store import shipped_profiles

    return load_profile(shipped_profiles().get(word) or Path(word))
