"""Devices known by what was published about them: multiply-accumulates per second by bit pair.

Latency of a layer = its MACs over the device's rate for the pair of weight and activation bits.
Nothing is measured: entries carry the provenance of their source (``published`` rates, or
``simulated`` where a peak rate stands for what nobody reaches), and no conversion, memory or call
overhead is counted. A choice between the listed widths runs as the next wider pair.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw_profiles.backends.base import GraphNode, Measured, Network, Progress
from hw_profiles.device import Device
from hw_profiles.hw import HwConfig
from hw_profiles.impossible import PROVENANCES
from hw_profiles.keys import FLOAT_EDGE
from hw_profiles.profile import Entry, EntryKey, NodeEntry
from quant.errors import ProfileError, UsageError, nearest
from quant.formats import parse_format
from spaces.choices import FLOAT_CHOICE, Choice
from spaces.layers import LayerSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

SCHEMA_VERSION = 1
DATA = Path(__file__).parent.parent.parent / "data" / "devices"
FLOAT = (32, 32)
Bits = tuple[int, int]


@dataclass(frozen=True)
class Throughput:
    """See :class:`hw_profiles.backends.base.Backend`.

    Attributes:
        title: what the device is called.
        source: publication of the rates.
        provenance: ``"published"`` or ``"simulated"``.
        macs_per_ms: rate for ``(weight bits, activation bits)``.
        simulated: pairs whose rate is an estimate, whatever the provenance of the others.
        strict: choices outside the listed pairs cannot run at all and are cut.
        note: what a reader should know.
    """

    title: str
    source: str
    provenance: str
    macs_per_ms: Mapping[Bits, float]
    simulated: frozenset[Bits]
    strict: bool
    note: str
    name: str = "throughput"

    @property
    def version(self) -> str:
        """Version of the data file's schema."""
        return str(SCHEMA_VERSION)

    @property
    def protocol(self) -> dict[str, object]:
        """Where the rates come from, stored in the profile."""
        return {"source": self.source, "note": self.note, "method": "MACs / rate of the bit pair"}

    @cached_property
    def device(self) -> Device:
        """The device as a profile names it."""
        return Device(self.title, "", (), 1, 0, "")

    def supports(self, layer: LayerSpec, choice: Choice) -> str | None:
        """None when the device multiplies in the choice's widths, else the reason."""
        if choice == FLOAT_CHOICE or _bits(choice) in self.macs_per_ms:
            return None
        offered = ", ".join(f"w{w}a{a}" for w, a in sorted(self.macs_per_ms) if (w, a) != FLOAT)
        return f"{self.title} computes {offered} only, not {choice.label}"

    def runs_as(self, layer: LayerSpec, choice: Choice) -> Choice:
        """The slowest-free fit: the fastest listed pair that holds both widths, else float."""
        weight, activation = _bits(choice)
        fitting = [
            (-rate, pair)
            for pair, rate in self.macs_per_ms.items()
            if pair != FLOAT and pair[0] >= weight and pair[1] >= activation
        ]
        if not fitting:
            return FLOAT_CHOICE
        _, (weight, activation) = min(fitting)
        return Choice(_format(weight), _format(activation))

    def edges(self, layer: LayerSpec, kernel: Choice) -> tuple[str, str]:
        """Conversions are not known, so none are counted."""
        return FLOAT_EDGE, FLOAT_EDGE

    def measure(self, keys: Sequence[EntryKey], progress: Progress) -> Measured:
        """Computes entries from the rates; nothing is measured."""
        return Measured(tuple(self._entry(key) for key in keys))

    def _entry(self, key: EntryKey) -> Entry:
        pair = parse_format(key.weight_format).bits, parse_format(key.activation_format).bits
        provenance = "simulated" if pair in self.simulated else self.provenance
        rate = self.macs_per_ms[pair]
        return Entry(key, _macs(key) / rate, statistic="rate", provenance=provenance)

    def measure_nodes(self, nodes: Sequence[GraphNode], progress: Progress) -> list[NodeEntry]:
        """There are no nodes."""
        return []

    def network(
        self, model: nn.Module, layers: Sequence[LayerSpec], example_input: Tensor
    ) -> Network:
        """The device is not here."""
        raise UsageError(
            f"{self.title} is not here: nothing can be run on it",
            expected="a device with a runtime on this machine",
            fix="hw=this",
        )


def make(hw: HwConfig, l2_bytes: int) -> Throughput:
    """Reads the data file a device configuration names.

    Raises:
        ProfileError: no such file, or one that is not whole.
    """
    path = DATA / f"{hw.profile}.json"
    if not path.exists():
        known = sorted(item.stem for item in DATA.glob("*.json"))
        raise ProfileError(
            f"there is no published device '{hw.profile}'",
            where=f"hw.{hw.name}.profile",
            expected=f"one of: {', '.join(known)}",
            fix=nearest(hw.profile, known) or "see hw_profiles/data/devices",
        )
    return read_device(json.loads(path.read_text()), path.name)


def read_device(data: Mapping[str, Any], where: str) -> Throughput:
    """Checks the content of a device file.

    Raises:
        ProfileError: a newer schema, an unknown provenance, or a rate that is not positive.
    """
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ProfileError(
            f"device file has schema version {version}",
            where=where,
            expected=str(SCHEMA_VERSION),
            fix="upgrade bitfront",
        )
    if data["provenance"] not in PROVENANCES:
        raise ProfileError(f"provenance '{data['provenance']}' is unknown", where=where)
    rates: dict[Bits, float] = {}
    simulated: set[Bits] = set()
    per_ms = float(data["clock_mhz"]) * 1e3
    for item in data["rates"]:
        pair, rate = (int(item["w"]), int(item["a"])), float(item["macs_per_cycle"])
        if not 0 < rate < float("inf"):
            raise ProfileError(
                f"macs_per_cycle is {rate} for w{pair[0]}a{pair[1]}",
                where=where,
                expected="a finite number above 0",
            )
        rates[pair] = rate * per_ms
        if item.get("provenance") == "simulated":
            simulated.add(pair)
    return Throughput(
        data["title"],
        data["source"],
        data["provenance"],
        rates,
        frozenset(simulated),
        bool(data.get("strict", False)),
        data.get("note", ""),
    )


def _bits(choice: Choice) -> Bits:
    return choice.weight.bits, choice.activation.bits


def _format(bits: int) -> Any:
    names = {32: "float32", 16: "float16"}
    return parse_format(names.get(bits, f"int{bits}"))


def _macs(key: EntryKey) -> int:
    """Multiply-accumulates of one call."""
    per_output = 1
    for size in key.weight_shape[1:]:
        per_output *= size
    elements = 1
    for size in key.input_shape if "transpose" in key.op else key.output_shape:
        elements *= size
    return per_output * elements * key.batch
