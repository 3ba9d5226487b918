"""axe-core over the pages: no serious or critical violation, light, dark and narrow.

The rules come from the npm package ``axe-core``; where neither it nor npm with a network is
there, the test is skipped with the reason.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from reports.index import write_index

pytestmark = pytest.mark.browser
VERSION = "4.11.0"


@pytest.fixture(scope="module")
def axe():
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bitfront" / "axe"
    script = cache / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        if shutil.which("npm") is None:
            pytest.skip("axe-core is not installed and npm is not there to install it")
        cache.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", f"axe-core@{VERSION}", "--no-audit", "--no-fund", "--silent"]
        done = subprocess.run([*command, "--prefix", cache], capture_output=True, check=False)
        if done.returncode or not script.exists():
            pytest.skip("axe-core could not be installed with npm (no network?)")
    return script.read_text()


def violations(page, axe):
    page.eval("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    page.call("Runtime.evaluate", expression=axe)
    found = page.eval(
        "axe.run(document, {resultTypes: ['violations']}).then(result => result.violations"
        ".map(v => [v.impact, v.id, v.nodes.map(n => n.html.slice(0, 120))]))"
    )
    return [item for item in found if item[0] in ("serious", "critical")]


@pytest.mark.parametrize(
    ("width", "fragment"),
    [(1280, "#theme=light"), (1280, "#theme=dark"), (380, "#theme=light")],
    ids=["light", "dark", "narrow"],
)
def test_report(chromium, report, axe, width, fragment):
    chromium.size(width, 900)
    chromium.open(report, fragment)
    chromium.draw_all()
    assert violations(chromium, axe) == []


def test_index(chromium, report, demo, axe):
    chromium.size(1280, 900)
    chromium.open(write_index(demo.parent))
    assert violations(chromium, axe) == []


def test_comparison(chromium, demo, hostile, axe, tmp_path):
    from reports.compare import compare
    from reports.compare_page import comparison_html
    from reports.data import load_run

    page = tmp_path / "compare.html"
    page.write_text(comparison_html(compare([load_run(demo), load_run(demo)])))
    chromium.open(page)
    assert violations(chromium, axe) == []
