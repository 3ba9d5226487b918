"""A static index of a directory of runs: one line per run, linking its report."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from quant.errors import BitfrontError, DataError
from reports.answer import verdict
from reports.data import ReportData, is_run, load_run
from reports.html import Html, el
from reports.page import document, render_report
from search.files import write_text

DEPTH = 4
SCRIPT_FREE = (
    "document.documentElement.dataset.theme = "
    "matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';"
    "document.documentElement.dataset.ready = 'yes';"
)


def find_runs(root: Path, depth: int = DEPTH) -> list[Path]:
    """Run directories at or below ``root``, sorted; a run's own folders are not searched."""
    return sorted(_walk(root, depth))


def _walk(root: Path, depth: int) -> Iterator[Path]:
    if is_run(root):
        yield root
    elif depth > 0 and root.is_dir():
        for child in root.iterdir():
            if child.is_dir() and not child.name.startswith("."):
                yield from _walk(child, depth - 1)


def write_index(root: Path) -> Path:
    """Writes ``index.html`` in ``root``, rendering reports that are missing or older.

    Raises:
        DataError: there is no run below ``root``.
    """
    runs = find_runs(root)
    if not runs:
        raise DataError(
            f"there is no run in '{root.name}'",
            expected="run directories below it, each with manifest.json",
            fix="give the directory that holds your studies, for example runs/",
        )
    target = root / "index.html"
    write_text(target, index_html(root, runs))
    return target


def index_html(root: Path, runs: Sequence[Path]) -> str:
    """The index as text."""
    rows = [_row(root, run) for run in runs]
    heads = ("Study", "Task", "State", "Candidates", "Date", "Result")
    table = el(
        "table",
        el("caption", "Runs", class_="hidden"),
        el("thead", el("tr", *(el("th", head, scope="col") for head in heads))),
        el("tbody", *rows),
    )
    title = f"{len(runs)} runs in {root.name}"
    main = el(
        "main",
        el("section", el("h1", title), class_="answer"),
        el("div", table, class_="card", style="margin-top:24px;overflow-x:auto"),
    )
    return document(f"{title} · bitfront", [main, el("script", Html(SCRIPT_FREE))])


def _row(root: Path, run: Path) -> Html:
    name = os.path.relpath(run, root)
    try:
        data = load_run(run)
        page = run / "report.html"
        if not page.exists() or page.stat().st_mtime < newest(run):
            render_report(run)
    except BitfrontError as error:
        return el("tr", el("td", name), el("td", error.what, colspan=5, class_="muted"))
    return _data_row(root, run, data)


def _data_row(root: Path, run: Path, data: ReportData) -> Html:
    link = el("a", data.name, href=os.path.relpath(run / "report.html", root))
    date = str(data.manifest.get("ended") or data.manifest.get("started") or "")[:10]
    said = [el("div", verdict(data, cost).headline) for cost in data.costs]
    return el(
        "tr",
        el("td", link),
        el("td", data.manifest.get("task", {}).get("name", "")),
        el("td", data.state),
        el("td", len(data.table), class_="num"),
        el("td", date),
        el("td", *said),
    )


def newest(run: Path) -> float:
    """When the newest input of a report was written, seconds since the epoch."""
    inputs = [path for path in run.iterdir() if path.is_file() and path.name != "report.html"]
    inputs += list((run / "trials").glob("*.jsonl"))
    return max(path.stat().st_mtime for path in inputs)
