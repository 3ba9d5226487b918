"""Trains the weights that come with the package: ``python -m search.tasks.ship [name=...]``.

One training a task, by its default recipe and seed, with the result taken as it comes. The
figures of README, docs and docstrings belong to the weights in ``search/tasks/shipped``; another
machine makes others, so who runs this measures those figures again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

from quant.errors import unknown
from search.progress import Bar
from search.tasks.base import Task
from search.tasks.digits import digits_resnet, digits_vit
from search.tasks.weights import record_of, shipped_folder

SHIPPED: dict[str, Callable[..., Task]] = {
    "digits_resnet": digits_resnet,
    "digits_vit": digits_vit,
}


def ship(name: str, folder: Path) -> Path:
    """Trains a task's model anew; weights and record become ``<name>`` in a folder.

    Returns:
        The file of weights.
    """
    with tempfile.TemporaryDirectory() as cache:
        with mock.patch.dict(os.environ, {"BITFRONT_CACHE": cache}):
            SHIPPED[name](train=True, progress=Bar(name))
        (made,) = Path(cache).glob("weights/*.safetensors")
        target = folder / f"{name}.safetensors"
        shutil.copyfile(made, target)
        record = json.loads(record_of(made).read_text())
    record["command"] = f"python -m {__spec__.name} name={name}"
    record_of(target).write_text(json.dumps(record, indent=1) + "\n")
    return target


def main(argv: Sequence[str]) -> None:
    """Entry point; every task unless ``name`` picks one.

    Raises:
        UsageError: not one of :data:`SHIPPED`.
    """
    options = dict(word.split("=", 1) for word in argv)
    for name in [options["name"]] if "name" in options else SHIPPED:
        if name not in SHIPPED:
            raise unknown("name", name, SHIPPED)
        print(ship(name, shipped_folder()), file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
