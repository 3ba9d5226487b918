"""Static SVG and PNG of every figure, drawn by a local Chromium from the page's own plots."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from quant.errors import DataError, UsageError
from reports import layout, theme
from reports.data import ReportData
from reports.figure import draw
from reports.figures import figures_for
from reports.html import Html, data_block, el
from reports.page import library, plain_figure

KINDS = ("svg", "png")
WIDTH = 960
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
SCRIPT = """
const { figures, template, kind, width } = JSON.parse(document.getElementById("job").textContent);
(async () => {
  const made = {};
  for (const [name, { data, layout }] of Object.entries(figures))
    made[name] = await Plotly.toImage({ data, layout: { ...layout, template, width,
      paper_bgcolor: "#ffffff" } }, { format: kind, width, height: layout.height, scale: 2 });
  document.getElementById("made").textContent = JSON.stringify(made);
})();
"""


def write_pictures(data: ReportData, target: Path, kind: str) -> list[Path]:
    """Draws every figure of a run into ``target`` and returns the files.

    Raises:
        UsageError: ``kind`` is neither ``svg`` nor ``png``.
        DataError: there is no browser, or it did not draw.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown picture kind '{kind}'", expected="svg or png")
    browser = find_browser()
    figures = {
        layout.figure_id(item).removeprefix("fig-"): plain_figure(item.figure)
        for item in (draw(figure, data) for figure in figures_for(data))
        if item.figure is not None
    }
    target.mkdir(exist_ok=True)
    paths = []
    for name, url in drawn_by(browser, figures, kind).items():
        path = target / f"{name}.{kind}"
        path.write_bytes(decode_data_url(url))
        paths.append(path)
    return paths


def find_browser() -> str:
    """Path of a Chromium.

    Raises:
        DataError: none is installed.
    """
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise DataError(
            "static pictures need a browser",
            expected=f"one of {', '.join(BROWSERS)} on PATH",
            fix="install one (Debian: apt-get install chromium), or leave --figures out",
        )
    return found


def drawn_by(browser: str, figures: Mapping[str, object], kind: str) -> dict[str, str]:
    """Data URLs of figures by name.

    Raises:
        DataError: the browser ended without drawing.
    """
    job = {"figures": figures, "template": theme.template(theme.LIGHT), "kind": kind}
    page = el(
        "html",
        el("body", el("pre", id="made"), data_block("job", {**job, "width": WIDTH}), library()),
        el("script", Html(SCRIPT)),
    )
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "job.html"
        path.write_text(f"<!doctype html><meta charset=utf-8>{page}", encoding="utf-8")
        command = [browser, *FLAGS, f"--user-data-dir={home}/profile"]
        command += ["--virtual-time-budget=60000", "--dump-dom", path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    match = re.search(r'<pre id="made">(.*?)</pre>', done.stdout, re.DOTALL)
    if not match or not match[1]:
        raise DataError("the browser did not draw the figures", where=Path(browser).name)
    text = match[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    made: dict[str, str] = json.loads(text)
    return made


def decode_data_url(url: str) -> bytes:
    """Content of a ``data:`` URL, base64 or percent-encoded."""
    head, _, body = url.partition(",")
    if head.endswith(";base64"):
        return base64.b64decode(body)
    return urllib.parse.unquote_to_bytes(body)
