"""Figures of the report on a large run: time to render, weight, time to first figure.

``report_bench()`` returns rows with the fields every benchmark prints. Figures that need a
browser are left out where there is none.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from reports.page import render_report
from search.stats import bootstrap
from tests.support.chromium import BROWSER, browser
from tests.support.synthetic_run import Recipe, write_run

LAYERS, CANDIDATES = 60, 5000
LARGE = Recipe(layers=LAYERS, per_trial=416, seeds=(0, 1, 2), measured=20)
CASE = f"{CANDIDATES} candidates x {LAYERS} layers"


def report_bench(repeats=5):
    """Rows ``{suite, case, metric, value, unit, bar, better, n, interval}``."""
    with tempfile.TemporaryDirectory() as home:
        run = write_run(Path(home) / "runs" / "large", LARGE)
        seconds, pages = zip(*(_timed(run) for _ in range(repeats)), strict=True)
        rows = [
            _row("render_s", seconds, "s", 6.0),
            _row("page_mb", [len(pages[0]) / 1e6], "MB", 6.5),
            _row("differing_renders", [len(set(pages)) - 1], "count", 0.0),
        ]
        if BROWSER is not None:
            rows.append(_row("first_figure_s", _paints(run / "report.html", repeats), "s", 1.5))
    return rows


def _timed(run):
    begun = time.perf_counter()
    page = render_report(run)
    return time.perf_counter() - begun, page.read_bytes()


def _paints(path, repeats):
    """Seconds from the start of navigation until the front is on the screen."""
    found = []
    with browser() as page:
        page.size(1280, 900)
        for _ in range(repeats):
            page.open(path)
            page.wait("performance.getEntriesByName('front-drawn').length > 0")
            found.append(
                page.eval("performance.getEntriesByName('front-drawn')[0].startTime") / 1e3
            )
    return found


def _row(metric, values, unit, bar):
    values = np.asarray(values, dtype=float)
    return {
        "suite": "report",
        "case": CASE,
        "metric": metric,
        "value": float(np.median(values)),
        "unit": unit,
        "bar": bar,
        "better": "lower",
        "n": len(values),
        "interval": list(bootstrap(values, np.random.default_rng(0))),
    }


if __name__ == "__main__":
    import json

    for item in report_bench():
        sys.stdout.write(json.dumps(item) + "\n")
