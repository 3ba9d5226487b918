"""``bitfront-report DIR...``: renders run directories as HTML pages.

Heavy imports are deferred so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from quant.errors import BitfrontError, DataError

EXAMPLES = """examples:
  bitfront-report runs/demo                      # writes runs/demo/report.html
  bitfront-report runs/a runs/b                  # one page per run
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exit codes are those of :mod:`quant.errors`."""
    arguments = parser().parse_args(argv)
    try:
        pages = run(arguments)
    except BitfrontError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    for page in pages:
        print(shown(page))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="bitfront-report",
        description="Renders run directories as self-contained HTML pages.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("runs", nargs="+", metavar="DIR", help="run directory")
    return made


def run(arguments: argparse.Namespace) -> list[Path]:
    """Does what the command line asks and returns the files written."""
    require_directories(arguments.runs)
    from reports.page import render_report

    return [render_report(Path(name)) for name in arguments.runs]


def require_directories(names: Sequence[str]) -> None:
    """Refuses what is not a directory before anything heavy is imported.

    Raises:
        DataError: a name is not a directory.
    """
    for name in names:
        if not Path(name).is_dir():
            raise DataError(
                f"'{name}' is not a directory",
                expected="a run directory, as bitfront-search writes it",
                fix="give its path, for example runs/demo",
            )


def shown(path: Path) -> str:
    """A path as a person would type it from here."""
    return os.path.relpath(path)


if __name__ == "__main__":
    main()
