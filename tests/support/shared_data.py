"""Finds data that lies beside the repository and is never part of it."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def shared_data(name):
    """The folder ``shared/data/<name>`` next to the repository or above it; skips without it."""
    for parent in ROOT.parents:
        folder = parent / "shared" / "data" / name
        if folder.is_dir():
            return folder
    return pytest.skip(f"no folder shared/data/{name} beside the repository")
