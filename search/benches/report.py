"""Rendering a large run: time, weight, time to the first figure in a browser.

The run is made up by the test suite's generator and the page is opened with its browser driver,
so this suite needs a source checkout.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quant.errors import UsageError
from search.benches.base import Figure

ROOT = Path(__file__).resolve().parents[2]


def run(config: Mapping[str, Any]) -> Iterator[Figure]:
    """Yields the figures; the configuration is not read.

    Raises:
        UsageError: the tests are not there.
    """
    if not (ROOT / "tests" / "support" / "report_bench.py").exists():
        raise UsageError(
            "the report benchmark needs the test suite",
            expected="a source checkout",
            fix="run it from a clone of the repository",
        )
    sys.path.insert(0, str(ROOT))
    try:
        bench = importlib.import_module("tests.support.report_bench")
    finally:
        sys.path.remove(str(ROOT))
    for row in bench.report_bench():
        yield Figure(**{**row, "interval": tuple(row["interval"])})
