"""One file per figure; :func:`figures_for` finds them all, in the order of the page."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.data import ReportData
    from reports.figure import Figure


def figures_for(data: ReportData) -> list[Figure[Any]]:
    """Every variant of every figure for a run.

    A figure module offers ``variants(data) -> list[Figure]`` and ``ORDER``, its place.
    """
    modules = [
        importlib.import_module(f"{__name__}.{item.name}")
        for item in pkgutil.iter_modules(__path__)
    ]
    ordered = sorted(modules, key=lambda module: (module.ORDER, module.__name__))
    return [figure for module in ordered for figure in module.variants(data)]
