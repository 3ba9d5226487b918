"""``bitfront-report DIR...``: pages, comparisons, indexes, checks and pictures of runs.

Heavy imports are deferred so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from quant.errors import BitfrontError, DataError, UsageError

EXAMPLES = """examples:
  bitfront-report runs/demo                        # writes runs/demo/report.html
  bitfront-report runs/sweep/multirun              # one page per run below it
  bitfront-report runs/a runs/b --compare          # writes compare.html beside runs/a
  bitfront-report runs --index                     # writes runs/index.html
  bitfront-report runs/demo --check                # recomputes fronts and hashes from the journals
  bitfront-report runs/demo --format md            # a summary on stdout; also csv, json
  bitfront-report runs --plotly directory          # pages of 0.4 MB that share one plotly.js
  bitfront-report runs/demo --figures svg          # pictures in runs/demo/figures
"""
FORMATS = ("html", "md", "csv", "json")
FAILED_CHECK = 4


SWEEP = "multirun.yaml"
"""What Hydra leaves in the directory of a sweep."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exit codes are those of :mod:`quant.errors`."""
    arguments = parser().parse_args(argv)
    try:
        code = run(arguments)
    except BitfrontError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    sys.exit(code)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="bitfront-report",
        description="Renders run directories as self-contained HTML pages.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "runs", nargs="+", metavar="DIR", help="run directory, or one that holds runs"
    )
    modes = made.add_mutually_exclusive_group()
    modes.add_argument("--compare", action="store_true", help="one page for several runs")
    modes.add_argument("--index", action="store_true", help="an index page of a directory of runs")
    modes.add_argument("--check", action="store_true", help="recompute the run from its journals")
    modes.add_argument("--figures", choices=("svg", "png"), help="write every figure as a picture")
    made.add_argument("--format", choices=FORMATS, default="html", help="md, csv, json: to stdout")
    made.add_argument(
        "--plotly",
        choices=("inline", "directory"),
        default="inline",
        help="inline: pages stand alone; directory: all pages share one plotly.js beside the runs",
    )
    made.add_argument("--output", metavar="FILE", help="where --compare writes its page")
    return made


def run(arguments: argparse.Namespace) -> int:
    """Does what the command line asks and returns the exit code.

    Raises:
        BitfrontError: a directory cannot be used, or runs cannot be compared.
    """
    roots = [require_directory(name) for name in arguments.runs]
    if arguments.index:
        return index(roots)
    runs = [path for root in roots for path in runs_in(root)]
    if arguments.compare:
        return compare(runs, arguments.output)
    if arguments.output:
        raise UsageError("--output goes with --compare only", fix="leave it out")
    if arguments.check:
        return check(runs)
    if arguments.figures:
        return pictures(runs, arguments.figures)
    if arguments.format != "html":
        return texts(runs, arguments.format)
    code = pages(runs, shared_root(roots) if arguments.plotly == "directory" else None)
    for root in roots:
        if (root / SWEEP).is_file():
            compare_sweep(root)
    return code


def shared_root(roots: Sequence[Path]) -> Path:
    """Where the library of several pages goes: above all of them, beside a single run."""
    paths = [root.resolve() for root in roots]
    common = Path(os.path.commonpath(paths))
    return common.parent if len(paths) == 1 and (common / "manifest.json").is_file() else common


def require_directory(name: str) -> Path:
    """A directory, checked before anything heavy is imported.

    Raises:
        DataError: ``name`` is not a directory.
    """
    if not Path(name).is_dir():
        raise DataError(
            f"'{name}' is not a directory",
            expected="a run directory, as bitfront-search writes it",
            fix="give its path, for example runs/demo",
        )
    return Path(name)


def runs_in(root: Path) -> list[Path]:
    """A run, or all runs below a directory; a directory without runs is left to the reader.

    A directory without runs is returned itself, so that reading it says what is missing.
    """
    from reports.index import find_runs

    return find_runs(root) or [root]


def pages(runs: Sequence[Path], library_dir: Path | None = None) -> int:
    """One page per run; a run that cannot be read does not stop the others."""
    from reports.page import render_report

    code = 0
    for path in runs:
        try:
            print(shown(render_report(path, library_dir)))
        except BitfrontError as error:
            print(f"error: {error}", file=sys.stderr)
            code = code or error.exit_code
    return code


def texts(runs: Sequence[Path], kind: str) -> int:
    """Markdown, CSV or JSON on stdout."""
    from reports.data import load_run
    from reports.texts import WRITERS

    for path in runs:
        sys.stdout.write(WRITERS[kind](load_run(path)))
    return 0


def compare(runs: Sequence[Path], output: str | None) -> int:
    """One page for several runs."""
    from reports.compare_page import render_comparison

    target = Path(output) if output else runs[0].parent / "compare.html"
    print(shown(render_comparison(runs, target)))
    return 0


def compare_sweep(root: Path) -> None:
    """One page for the jobs of a sweep, or the reason why they cannot be compared."""
    from reports.compare_page import render_comparison

    try:
        print(shown(render_comparison(runs_in(root), root / "compare.html")))
    except BitfrontError as error:
        print(f"not compared: {error.what}", file=sys.stderr)


def index(roots: Sequence[Path]) -> int:
    """An index page per directory."""
    from reports.index import write_index

    for root in roots:
        print(shown(write_index(root)))
    return 0


def check(runs: Sequence[Path]) -> int:
    """Recomputes runs; any difference makes the exit code 4."""
    from reports.check import check_run, failures

    code = 0
    for path in runs:
        checks = check_run(path)
        for item in checks:
            print(f"{'ok  ' if not item.problems else 'FAIL'}  {shown(path)}  {item.name}")
            for problem in item.problems:
                print(f"        {problem}")
        code = FAILED_CHECK if failures(checks) else code
    return code


def pictures(runs: Sequence[Path], kind: str) -> int:
    """Every figure of every run as SVG or PNG."""
    from reports.data import load_run
    from reports.pictures import write_pictures

    for path in runs:
        for picture in write_pictures(load_run(path), path / "figures", kind):
            print(shown(picture))
    return 0


def shown(path: Path) -> str:
    """A path as a person would type it from here."""
    return os.path.relpath(path)


if __name__ == "__main__":
    main()
