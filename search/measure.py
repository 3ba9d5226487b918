"""``bitfront-measure build|validate [key=value ...]``: tables, and how true they are."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from quant.errors import BitfrontError, UsageError, unknown

if TYPE_CHECKING:
    from hw_profiles.profile import Profile

HELP = """bitfront-measure build|validate [key=value ...]

build     measures the kernels that a task's layers need in a space's formats on this machine and
          keeps the table in the cache; only missing entries are measured
validate  measures uniform policies and mixed ones drawn by seed end to end, interleaved with
          repetitions of themselves, and prints the error of the prediction beside the noise
Settings are those of bitfront-search.

Examples
  bitfront-measure build                                # the demo task
  bitfront-measure build task=digits_vit space=cpu_ort
  bitfront-measure build hw.this.rounds=20              # more interleaved rounds per kernel
  bitfront-measure validate task=digits_vit space=cpu_ort
"""
WORDS = ("build", "validate")
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
        _run(words[0], words[1:])
    except BitfrontError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _run(word: str, overrides: Sequence[str]) -> None:
    for item in overrides:
        if "=" not in item:
            raise UsageError(f"'{item}' is not a setting", expected="key=value")
    if word == "build":
        build(overrides)
        return
    from search.measuring.validate import validate

    print(validate(overrides))


def build(overrides: Sequence[str]) -> None:
    """Measures what is missing and prints the table as text.

    Raises:
        UsageError: a bad setting.
    """
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
