"""One run as one HTML file: self-contained, offline, the same bytes for the same run.

Order: answer, health, front, selected policy, bits along the front, sensitivity, hypervolume,
attainment, predicted against measured, where the cost is, run log, all candidates, provenance.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from reports import layout, sections
from reports.data import ReportData, load_run
from reports.figure import Drawn, draw
from reports.figures import figures_for
from reports.html import Html, data_block, el
from reports.payload import build_payload
from search.files import write_text

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)
"""Content security policy: nothing can be loaded or sent, whatever a layer is called."""

BESIDE = POLICY.replace("script-src ", "script-src 'self' file: ")
"""The same for a page whose library is a file beside it, opened from disk or from a server."""

SCRIPTS = ("core.js", "panel.js", "front.js", "candidates.js", "page.js")
"""The page's own script, in the order in which the parts build on each other."""


def render_report(run_dir: Path | str, library_dir: Path | None = None) -> Path:
    """Writes ``report.html`` of a run atomically and returns its path.

    Args:
        run_dir: the run.
        library_dir: directory that holds, or gets, one plotly.js for all its pages; None puts
            the library into the page itself.

    Raises:
        DataError: see :func:`reports.data.load_run`.
    """
    target = Path(run_dir) / "report.html"
    source = None
    if library_dir is not None:
        source = os.path.relpath(write_library(library_dir), target.parent)
    write_text(target, page_html(load_run(run_dir), source))
    return target


def write_library(directory: Path) -> Path:
    """Puts plotly.js into a directory under the name of its version and returns the file."""
    from plotly import __version__
    from plotly.offline import get_plotlyjs

    target = directory / f"plotly-{__version__}.min.js"
    if not target.exists():
        write_text(target, get_plotlyjs())
    return target


def page_html(data: ReportData, library_source: str | None = None) -> str:
    """The whole page as text.

    Args:
        data: the run.
        library_source: relative path of plotly.js; None inlines it.
    """
    drawn = [draw(figure, data) for figure in figures_for(data)]
    title = f"{data.name} · bitfront"
    body = [
        sections.header(data),
        main_part(data, drawn),
        sections.key_help(),
        *scripts(data, drawn, library_source),
    ]
    return document(title, body, POLICY if library_source is None else BESIDE)


def document(title: str, body: Sequence[object], policy: str = POLICY) -> str:
    """The HTML frame shared by reports, comparisons and the index."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="generator", content="bitfront"),
        el("link", rel="icon", href="data:,"),
        el("title", title),
        el("style", Html(asset("page.css"))),
    )
    return f"<!doctype html>\n{el('html', head, el('body', *body), lang='en')}\n"


def asset(name: str) -> str:
    """Text of a file in ``reports/assets``."""
    return (resources.files("reports") / "assets" / name).read_text(encoding="utf-8")


def main_part(data: ReportData, drawn: Sequence[Drawn]) -> Html:
    """Everything between the header and the scripts."""
    body = [sections.health_section(data), *figure_sections(data, drawn)]
    body += [layout.candidates_section(data), sections.provenance_section(data)]
    footer = el(
        "footer",
        "Written by bitfront from the files of one run directory. ",
        "Cross-check them with ",
        el("code", f"bitfront-report --check {data.path}"),
        ".",
    )
    return el("main", sections.answer_section(data), contents(body), *body, footer)


def contents(body: Sequence[Html]) -> Html:
    """Links to the sections of the page, read off their headings."""
    marks = [part.split('id="', 1)[1].split('"', 1)[0] for part in body]
    titles = [part.split("<h2>", 1)[1].split("</h2>", 1)[0] for part in body]
    links = (el("a", Html(t), href=f"#{m}") for m, t in zip(marks, titles, strict=True))
    return el("nav", *links, class_="contents", aria_label="Contents")


def figure_sections(data: ReportData, drawn: Sequence[Drawn]) -> list[Html]:
    """One section per figure title; variants by cost share it."""
    found = []
    for title, group in groupby(drawn, key=lambda item: item.title):
        items = list(group)
        name = items[0].name.partition("-")[0]
        cards = layout.SPECIAL.get(name, layout.plain_cards)(data, items)
        found.append(sections.section(name, title, items[0].question, cards))
    return found


def scripts(
    data: ReportData, drawn: Sequence[Drawn], library_source: str | None = None
) -> list[Html]:
    """Data first, then the library once, then the page's own script."""
    blocks = [data_block("data", build_payload(data))]
    figures = {
        layout.figure_id(item): plain_figure(item.figure)
        for item in drawn
        if item.figure is not None and layout.embedded(item, data)
    }
    blocks.append(data_block("figures", figures))
    plotly = library() if library_source is None else el("script", src=library_source)
    return [*blocks, plotly, el("script", Html("".join(map(asset, SCRIPTS))))]


def plain_figure(figure: Any) -> dict[str, Any]:
    """A plotly figure as plain data without its template; arrays stay typed and compact."""
    data: dict[str, Any] = json.loads(figure.to_json())
    data["layout"].pop("template", None)
    return {"data": data["data"], "layout": data["layout"]}


def library() -> Html:
    """plotly.js, inlined; the only copy on the page."""
    from plotly.offline import get_plotlyjs

    return el("script", Html(get_plotlyjs().replace("</script", "<\\/script")))
