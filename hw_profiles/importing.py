"""Tables from a spreadsheet: rows of layer, widths and time become entries of a profile.

Two shapes are read. *Long*: one row per layer and widths, with columns for weight bits,
activation bits and time. *Wide*: one row per layer and one column of times per pair of widths.
Rows name layers of a model, whose geometry becomes the entry's key; layers of the same geometry
share an entry, the mean of their times.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hw_profiles.impossible import PROVENANCES
from hw_profiles.profile import Entry, EntryKey
from quant.errors import ProfileError, nearest, unknown
from quant.formats import FLOAT32, Format, parse_format
from spaces.layers import LayerSpec

UNITS = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
_PAIR = re.compile(r"(energy_)?w(\d+)a(\d+)")
_CYCLES = re.compile(r"cycles@(\d+(?:\.\d+)?)MHz")
PLAIN = ("layer", "weight", "activation", "latency", "energy")
Bits = tuple[int, int]
Figures = tuple[float, float | None]
"""Time in milliseconds and, where known, energy in millijoules."""
Row = Mapping[str, str]


@dataclass(frozen=True)
class Columns:
    """Which column means what.

    Attributes:
        layer: names of layers.
        weight: weight bits (long shape).
        activation: activation bits (long shape); the weight's when empty.
        latency: time (long shape).
        wide: ``{(weight bits, activation bits): column of times}`` (wide shape).
        energy: energy in millijoules (long shape), empty where nobody measured it.
        wide_energy: ``{(weight bits, activation bits): column of energies}`` (wide shape).
    """

    layer: str = "layer"
    weight: str = ""
    activation: str = ""
    latency: str = ""
    wide: Mapping[Bits, str] = field(default_factory=dict)
    energy: str = ""
    wide_energy: Mapping[Bits, str] = field(default_factory=dict)

    @staticmethod
    def parse(text: str) -> Columns:
        """Reads ``layer=name,weight=w,activation=a,latency=t`` or ``layer=name,w4a4=t4,w8a8=t8``.

        ``energy=e``, or ``energy_w4a4=e4`` for each pair, adds energies.

        Raises:
            ProfileError: a word that is neither, or no times at all.
        """
        plain: dict[str, str] = {}
        wide: dict[Bits, str] = {}
        wide_energy: dict[Bits, str] = {}
        for word in filter(None, text.split(",")):
            key, _, column = word.partition("=")
            pair = _PAIR.fullmatch(key)
            if pair:
                target = wide_energy if pair[1] else wide
                target[int(pair[2]), int(pair[3])] = column
            elif key in PLAIN:
                plain[key] = column
            else:
                raise unknown("column", key, (*PLAIN, "w4a4", "energy_w4a4"))
        if not wide and not ("weight" in plain and "latency" in plain):
            raise ProfileError(
                "the column map names no times",
                where="columns",
                expected="weight=...,latency=... (a row per widths) or w8a8=... (a column each)",
            )
        return Columns(**plain, wide=wide, wide_energy=wide_energy)

    def times(self, row: Row) -> Iterable[tuple[Bits, str, str | None]]:
        """Widths, time text and energy text of every entry of a row."""
        for pair, column in self.wide.items():
            energy = self.wide_energy.get(pair)
            yield pair, row[column], row[energy] if energy else None
        if not self.wide:
            weight = int(row[self.weight])
            activation = int(row[self.activation]) if self.activation else weight
            energy = self.energy or None
            yield (weight, activation), row[self.latency], row[energy] if energy else None

    @property
    def names(self) -> list[str]:
        """All columns that must be there."""
        plain = (self.layer, self.weight, self.activation, self.latency, self.energy)
        named = (*plain, *self.wide.values(), *self.wide_energy.values())
        return [name for name in named if name]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file.

    Raises:
        ProfileError: it cannot be read or has no rows.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as cause:
        raise ProfileError(f"table cannot be read: {cause}", where=path.name) from cause
    if not rows:
        raise ProfileError("table has no rows", where=path.name, expected="a header and rows")
    return rows


def import_entries(
    rows: Sequence[Row],
    columns: Columns,
    layers: Sequence[LayerSpec],
    *,
    unit: str,
    provenance: str,
    where: str = "table",
) -> list[Entry]:
    """Entries of a table; see the module docstring.

    Args:
        rows: as read from the file.
        columns: what its columns mean.
        layers: the model the rows speak of.
        unit: ``s``, ``ms``, ``us``, ``ns`` or ``cycles@<clock>MHz``.
        provenance: one of :data:`hw_profiles.impossible.PROVENANCES`.
        where: name of the file, for messages.

    Raises:
        ProfileError: a column or layer that is not there, a missing or unknown unit, a time that
            is not a positive number, or the same layer and widths twice.
    """
    if provenance not in PROVENANCES:
        raise unknown("provenance", provenance, PROVENANCES, where="provenance")
    scale, named = _scale(unit), {layer.name: layer for layer in layers}
    _require_columns(columns, rows[0], where)
    found: dict[EntryKey, list[Figures]] = {}
    seen: set[tuple[str, Bits]] = set()
    for number, row in enumerate(rows, start=2):
        name = row[columns.layer]
        if name not in named:
            raise unknown("layer", name, named, where=f"{where}, line {number}")
        for pair, text, energy in columns.times(row):
            if (name, pair) in seen:
                raise ProfileError(
                    f"layer '{name}' has w{pair[0]}a{pair[1]} twice",
                    where=f"{where}, line {number}",
                )
            seen.add((name, pair))
            line = f"{where}, line {number}"
            time = scale * _number(text, "time", line)
            spent = None if energy is None else _number(energy, "energy", line)
            found.setdefault(width_key(named[name], pair), []).append((time, spent))
    return [_entry(key, figures, provenance) for key, figures in found.items()]


def width_key(layer: LayerSpec, bits: Bits) -> EntryKey:
    """Key of a layer by geometry and widths alone."""
    return EntryKey(
        op=layer.op,
        weight_shape=layer.weight_shape,
        input_shape=layer.input_shape,
        output_shape=layer.output_shape,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        weight_format=str(width_format(bits[0])),
        activation_format=str(width_format(bits[1])),
        fused_with=layer.fused_with,
    )


def width_format(bits: int) -> Format:
    """The plain format of a width: ``int8`` for 8, ``float32`` for 32."""
    if bits == FLOAT32.bits:
        return FLOAT32
    return parse_format("float16") if bits == 16 else parse_format(f"int{max(bits, 2)}")


def _entry(key: EntryKey, figures: Sequence[Figures], provenance: str) -> Entry:
    times = [time for time, _ in figures]
    energies = [energy for _, energy in figures if energy is not None]
    mean = sum(times) / len(times)
    return Entry(
        key,
        mean,
        spread=(max(times) - min(times)) / mean if mean else 0.0,
        rounds=len(times),
        statistic="imported",
        provenance=provenance,
        energy_mj=sum(energies) / len(energies) if energies else None,
    )


def _scale(unit: str) -> float:
    """Milliseconds per unit."""
    cycles = _CYCLES.fullmatch(unit)
    if cycles:
        return 1 / (float(cycles[1]) * 1e3)
    if unit not in UNITS:
        raise ProfileError(
            f"unit '{unit}' is unknown" if unit else "the unit of the times is missing",
            where="unit",
            expected=f"one of: {', '.join(UNITS)}, cycles@<clock>MHz",
            fix="unit=us",
        )
    return UNITS[unit]


def _require_columns(columns: Columns, row: Row, where: str) -> None:
    for name in columns.names:
        if name not in row:
            raise ProfileError(
                f"there is no column '{name}'",
                where=where,
                expected=f"one of: {', '.join(row)}",
                fix=nearest(name, row) or "columns='layer=...,weight=...,latency=...'",
            )


def _number(text: str, what: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ProfileError(
            f"{what} '{text}' is no positive number",
            where=where,
            expected="a finite number above 0",
            fix="correct the row or remove it",
        )
    return value
