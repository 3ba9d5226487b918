"""Runtimes that can be measured: one folder each, found by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable

from hw_profiles.backends.base import Backend
from hw_profiles.device import this_device
from hw_profiles.hw import HwConfig
from quant.errors import unknown


def backend_names() -> tuple[str, ...]:
    """Names of the backends that come with bitfront."""
    paths: Iterable[str] = __path__
    return tuple(sorted(item.name for item in pkgutil.iter_modules(paths) if item.ispkg))


def load_backend(hw: HwConfig) -> Backend:
    """Builds the backend a device configuration names.

    Raises:
        UsageError: no backend of that name.
    """
    if hw.backend not in backend_names():
        raise unknown("backend", hw.backend, backend_names(), where=f"hw.{hw.name}.backend")
    module = importlib.import_module(f"{__name__}.{hw.backend}")
    backend: Backend = module.make(hw, this_device().l2_bytes)
    return backend
