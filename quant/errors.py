"""Errors a user can act on: what went wrong, where, what was expected, how to fix it.

Each class carries the process exit code documented in ``docs/commands.md``. Code raises the
narrowest class; only the entry points turn them into a message and an exit status.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BitfrontError(Exception):
    """Base of every error with a message meant for a user.

    Args:
        what: one sentence, what is wrong, with the offending value.
        where: the place a user can edit or look at (config key, file, layer).
        expected: the values or the range that would have been accepted.
        fix: the next thing to type or change.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", expected: str = "", fix: str = "") -> None:
        self.what, self.where, self.expected, self.fix = what, where, expected, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [self.what]
        lines += [f"  at: {self.where}"] if self.where else []
        lines += [f"  expected: {self.expected}"] if self.expected else []
        lines += [f"  fix: {self.fix}"] if self.fix else []
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders under Ray; keyword-only fields need an explicit recipe.
        return _rebuild, (type(self), self.what, self.where, self.expected, self.fix)


def _rebuild(
    kind: type[BitfrontError], what: str, where: str, expected: str, fix: str
) -> BitfrontError:
    return kind(what, where=where, expected=expected, fix=fix)


class UsageError(BitfrontError):
    """A configuration or command line that cannot be meant (exit 2)."""

    exit_code = 2


class InfeasibleError(BitfrontError):
    """No policy satisfies the space and its budgets (exit 3)."""

    exit_code = 3


class DataError(BitfrontError):
    """Data, a model or a run directory is missing or unusable (exit 4)."""

    exit_code = 4


class ProfileError(BitfrontError):
    """A latency table is of another device, damaged, or lacks entries (exit 5)."""

    exit_code = 5


class TooFewError(BitfrontError):
    """The study ended with fewer successful candidates than asked for (exit 6)."""

    exit_code = 6


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ``"did you mean 'x'?"`` for the closest known name, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean '{match[0]}'?" if match else ""


def unknown(kind: str, name: str, known: Iterable[str], *, where: str = "") -> UsageError:
    """Builds the error for a name that is not among the known ones, with the nearest match."""
    options = sorted(known)
    hint = nearest(name, options)
    return UsageError(
        f"unknown {kind} '{name}'",
        where=where,
        expected=f"one of: {', '.join(options)}",
        fix=hint or f"choose one of the {kind} names above",
    )
