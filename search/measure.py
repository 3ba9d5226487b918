"""``bitfront-measure build [key=value ...]``: the latency table a task and space need here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from quant.errors import BitfrontError, UsageError, unknown

if TYPE_CHECKING:
    from hw_profiles.profile import Profile

HELP = """bitfront-measure build [key=value ...]

Measures the kernels that a task's layers need in a space's formats on this machine and keeps
the table in the cache; only missing entries are measured. Settings are those of bitfront-search.

Examples
  bitfront-measure build                                # the demo task
  bitfront-measure build task=digits_vit space=cpu_ort
  bitfront-measure build hw.this.rounds=20              # more interleaved rounds per kernel
"""
WORDS = ("build",)
HEADER = (
    f"{'op':16s} {'input':20s} {'weight':18s} {'formats':26s} {'us':>9s} {'spread':>7s}  kernels"
)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with the codes of ``docs/commands.md``."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(HELP)
        return
    try:
        if words[0] not in WORDS:
            raise unknown("word", words[0], WORDS, where="bitfront-measure")
        build(words[1:])
    except BitfrontError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def build(overrides: Sequence[str]) -> None:
    """Measures what is missing and prints the table as text.

    Raises:
        UsageError: a word that is not ``key=value``, or a bad setting.
    """
    for word in overrides:
        if "=" not in word:
            raise UsageError(f"'{word}' is not a setting", expected="key=value")
    from search.api import compose_plain
    from search.plan import make_plan
    from search.progress import say
    from search.settings import Settings

    plan = make_plan(Settings.from_dict(compose_plain(overrides)))
    if plan.table_seconds == 0.0:
        say(f"the table already covers space '{plan.space.name}': nothing to measure")
    print(table_text(plan.profile))


def table_text(profile: Profile) -> str:
    """One line per entry: op, shapes, formats, time, spread and the kernels seen."""
    lines = [
        f"{profile.device.name}, {profile.runtime} {profile.runtime_version}, "
        f"{profile.threads} thread, {len(profile.entries)} entries [{profile.hash[:12]}]",
        HEADER,
    ]
    for entry in sorted(profile.entries, key=lambda item: str(item.key)):
        key = entry.key
        formats = f"{key.weight_format}/{key.activation_format}" if key.weight_format else ""
        mark = "" if entry.genuine else "  (storage only)"
        lines.append(
            f"{key.op:16s} {_shape(key.input_shape):20s} {_shape(key.weight_shape):18s} "
            f"{formats:26s} {1000 * entry.latency_ms:9.2f} {100 * entry.spread:6.1f}%  "
            f"{'+'.join(entry.kernel_ops)}{mark}"
        )
    return "\n".join(lines)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(str(size) for size in shape)


if __name__ == "__main__":
    main()
