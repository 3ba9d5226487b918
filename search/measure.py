"""``bitfront-measure``: tables of kernel times, and how true they are."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from quant.errors import BitfrontError, UsageError, unknown

HELP = """bitfront-measure build|validate|show|compare|merge|import ...

build     measures the kernels that a task's layers need in a space's formats on this machine and
          keeps the table in the cache; only missing entries are measured
validate  measures uniform policies and mixed ones drawn by seed end to end, interleaved with
          repetitions of themselves, and prints the error of the prediction beside the noise
show      prints a table; compare A B tells how two differ
merge     A B TO joins two tables of one device, the newer one's entries where both have some
import    FILE.csv TABLE.json columns=... unit=... turns a spreadsheet into a table
Settings are those of bitfront-search.

Examples
  bitfront-measure build                                # the demo task
  bitfront-measure build task=digits_vit space=cpu_ort
  bitfront-measure build hw.this.rounds=20              # more interleaved rounds per kernel
  bitfront-measure validate task=digits_vit space=cpu_ort
  bitfront-measure compare mine.json yours.json
  bitfront-measure merge monday.json tuesday.json both.parquet
  bitfront-measure import times.csv board.json columns='layer=name,w8a8=us8,w4a8=us4' unit=us
"""
WORDS = ("build", "validate", "show", "compare", "merge", "import")


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


def _run(word: str, rest: Sequence[str]) -> None:
    if word in ("show", "compare", "merge"):
        from search.measuring import tables

        print({"show": tables.show, "compare": tables.compare, "merge": tables.merge}[word](rest))
        return
    if word == "import":
        from search.measuring.importing import import_table

        print(import_table(rest))
        return
    for item in rest:
        if "=" not in item:
            raise UsageError(f"'{item}' is not a setting", expected="key=value")
    if word == "build":
        build(rest)
        return
    from search.measuring.validate import validate

    print(validate(rest))


def build(overrides: Sequence[str]) -> None:
    """Measures what is missing and prints the table as text.

    Raises:
        UsageError: a bad setting.
    """
    from search.api import compose_plain
    from search.measuring.tables import table_text
    from search.plan import make_plan
    from search.progress import say
    from search.settings import Settings

    plan = make_plan(Settings.from_dict(compose_plain(overrides)))
    if plan.table_seconds == 0.0:
        say(f"the table already covers space '{plan.space.name}': nothing to measure")
    print(table_text(plan.profile))


if __name__ == "__main__":
    main()
