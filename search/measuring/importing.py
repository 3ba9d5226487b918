"""``bitfront-measure import FILE TO key=value ...``: a spreadsheet becomes a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hw_profiles.device import Device
from hw_profiles.importing import Columns, import_entries, read_rows
from hw_profiles.profile import Profile
from hw_profiles.store import now
from quant.errors import UsageError
from search.api import compose_plain
from search.measuring.tables import table_text
from search.plan import load_task
from search.settings import Settings
from spaces.inventory import trace

OWN = ("columns", "unit", "provenance", "name")


def import_table(words: Sequence[str]) -> str:
    """Writes the table and returns it as text.

    Raises:
        UsageError: a file is not named, or the target exists.
        ProfileError: the rows make no table (see :func:`import_entries`).
    """
    files = [word for word in words if "=" not in word]
    if len(files) != 2:
        raise UsageError(
            f"{len(files)} files are named",
            where="bitfront-measure import",
            expected="two: the CSV file and the table to write",
            fix="bitfront-measure import t.csv board.json columns='layer=name,w8a8=us' unit=us",
        )
    source, target = map(Path, files)
    if target.exists():
        raise UsageError(
            f"'{target}' exists", expected="a new file", fix="name another, or remove it first"
        )
    own = dict(word.split("=", 1) for word in words if word.split("=")[0] in OWN)
    rest = [word for word in words if "=" in word and word.split("=")[0] not in OWN]
    task = load_task(Settings.from_dict(compose_plain(rest)))
    entries = import_entries(
        read_rows(source),
        Columns.parse(own.get("columns", "layer=layer,weight=weight,latency=latency")),
        trace(task.on_device.model, task.on_device.example_input).layers,
        unit=own.get("unit", ""),
        provenance=own.get("provenance", "measured"),
        where=source.name,
    )
    name = own.get("name", target.stem)
    profile = Profile(
        device=Device(name, "", (), 1, 0, ""),
        runtime="imported",
        runtime_version="1",
        threads=1,
        date=now(),
        entries=tuple(entries),
        protocol={"source": source.name},
        name=name,
    )
    profile.save(target)
    return table_text(profile)
