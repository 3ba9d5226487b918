"""The latency table of one device and runtime: entries with provenance, and their JSON file.

A profile file is versioned, carries a hash of its content, and is written atomically; a reader
refuses what was truncated, edited by hand, or written by a newer bitfront.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from hw_profiles import parquet
from hw_profiles.device import Device
from hw_profiles.impossible import TIMES, check_entries, check_times
from quant.errors import ProfileError

SCHEMA_VERSION = 4
"""Version 2 added ``nodes``, version 3 energies and the clock of the device, version 4 times with
weights in the private cache; older files are read as tables without them."""
RESIDENT_SHARE = 0.75
"""Weights up to this share of a private cache stay there, beside the activations."""
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EntryKey:
    """What one table entry is the time of.

    Attributes:
        op: an op of :data:`spaces.layers.OPS`, or ``"quantize"`` / ``"dequantize"`` for the
            conversion of a tensor between two layers.
        weight_shape: as in :class:`spaces.layers.LayerSpec`; empty for conversions.
        input_shape: shape entering the op for one sample, ``[1, ...]``.
        output_shape: shape leaving the op for one sample, ``[1, ...]``.
        stride: per spatial axis (empty for linear), likewise ``padding`` and ``dilation``.
        groups: convolution groups.
        weight_format: text form of the weight format the kernel computes with.
        activation_format: text form of the activation format the kernel computes with.
        edge_in: type of the tensor handed in, ``"float32"`` or ``"uint8"``.
        edge_out: type of the tensor handed out.
        fused_with: op computed by the same kernel, ``"relu"`` or ``""``.
        batch: samples per call.
        threads: threads of the runtime.
    """

    op: str
    weight_shape: Shape
    input_shape: Shape
    output_shape: Shape
    stride: Shape = ()
    padding: Shape = ()
    dilation: Shape = ()
    groups: int = 1
    weight_format: str = ""
    activation_format: str = ""
    edge_in: str = "float32"
    edge_out: str = "float32"
    fused_with: str = ""
    batch: int = 1
    threads: int = 1

    def __str__(self) -> str:
        shapes = [self.weight_shape, self.input_shape]
        sizes = " on ".join("x".join(map(str, shape)) for shape in shapes if shape)
        formats = f" {self.weight_format}/{self.activation_format}" if self.weight_format else ""
        fused = f"+{self.fused_with}" if self.fused_with else ""
        edges = f"{self.edge_in}->{self.edge_out}"
        return f"{self.op}{fused} {sizes}{formats} {edges} b{self.batch} t{self.threads}"


@dataclass(frozen=True, slots=True)
class Entry:
    """Time of one kernel.

    Attributes:
        key: what was timed.
        latency_ms: time of one call without call overhead and without the layout conversions
            that only an isolated layer needs, milliseconds.
        spread: interquartile range over rounds divided by the median.
        rounds: number of rounds behind ``latency_ms``.
        statistic: ``"p20"`` or ``"median"`` over rounds (other words for imported tables).
        kernel_ops: op types of the graph the runtime executed, after its optimisation.
        genuine: True when those ops compute in the key's formats; False for storage only.
        provenance: one of :data:`hw_profiles.impossible.PROVENANCES`.
        reference_ms: time of the reference kernel in the same rounds, 0 when there was none.
        wall_ratio: wall over CPU time, median of rounds; above 1.2 the kernel was pre-empted.
        energy_mj: energy of one call, millijoules; None where nobody measured it.
        resident_ms: time with weights that stay in the private cache of a core, as those of a
            small network do; None where it was not measured or is no other.
    """

    key: EntryKey
    latency_ms: float
    spread: float = 0.0
    rounds: int = 0
    statistic: str = ""
    kernel_ops: tuple[str, ...] = ()
    genuine: bool = True
    provenance: str = "measured"
    reference_ms: float = 0.0
    wall_ratio: float = 1.0
    energy_mj: float | None = None
    resident_ms: float | None = None


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """Time of one node of a runtime's optimised graph.

    Attributes:
        id: hash of ``text``.
        text: op, attributes, types and shapes, as the runtime executed them.
        latency_ms: time of one call without call overhead, milliseconds.
        spread: interquartile range over rounds divided by the median.
        rounds: number of rounds behind ``latency_ms``.
        statistic: ``"p20"`` or ``"median"`` over rounds.
        reference_ms: time of the reference kernel in the same rounds.
        wall_ratio: wall over CPU time, median of rounds.
        resident_ms: time with constants that stay in the private cache; None where it is no
            other.
    """

    id: str
    text: str
    latency_ms: float
    spread: float = 0.0
    rounds: int = 0
    statistic: str = ""
    reference_ms: float = 0.0
    wall_ratio: float = 1.0
    resident_ms: float | None = None


Timed = TypeVar("Timed", Entry, NodeEntry)


@dataclass(frozen=True)
class Profile:
    """Every known kernel time of one device and runtime version.

    Attributes:
        device: where the entries hold.
        runtime: name of the runtime, equal to the backend's name.
        runtime_version: version the entries were measured with.
        threads: threads of the runtime.
        date: when the newest entry was added, ISO 8601 in UTC.
        entries: the table; keys are unique.
        protocol: how it was measured (clock, rounds, statistic, ...), for people.
        name: what a report calls it.
        nodes: times of single nodes of optimised graphs, what whole networks are summed from.
    """

    device: Device
    runtime: str
    runtime_version: str
    threads: int
    date: str
    entries: tuple[Entry, ...] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)
    name: str = "this"
    nodes: tuple[NodeEntry, ...] = ()

    def __post_init__(self) -> None:
        check_entries(self.entries, self.name)
        for node in self.nodes:
            check_times(node, node.text, self.name)

    @cached_property
    def by_key(self) -> Mapping[EntryKey, Entry]:
        """The table as a mapping."""
        return {entry.key: entry for entry in self.entries}

    @cached_property
    def node_ms(self) -> Mapping[str, float]:
        """Time of each known node by id."""
        return {node.id: node.latency_ms for node in self.nodes}

    @cached_property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the content; independent of entry order."""
        return _digest(_content(self))

    def for_weights(self, weight_bytes: float) -> Profile:
        """The table as a network with so many bytes of weights sees it.

        Weights that fit in the private cache of a core stay there from call to call; others
        stream from beyond it on every call, which is what ``latency_ms`` holds.
        """
        if weight_bytes > RESIDENT_SHARE * self.device.l2_bytes:
            return self
        return replace(
            self,
            entries=tuple(_resident(entry) for entry in self.entries),
            nodes=tuple(_resident(node) for node in self.nodes),
        )

    def merged(
        self, entries: Iterable[Entry], date: str, nodes: Iterable[NodeEntry] = ()
    ) -> Profile:
        """Returns the profile with entries and nodes added; those already known are replaced."""
        table = {**self.by_key, **{entry.key: entry for entry in entries}}
        timed = {node.id: node for node in (*self.nodes, *nodes)}
        return replace(self, entries=tuple(table.values()), nodes=tuple(timed.values()), date=date)

    def joined(self, newer: Profile) -> Profile:
        """This table with what a newer one of the same device and runtime adds.

        Raises:
            ProfileError: device, runtime, version or threads differ: such a table would rank
                choices by where they were measured.
        """
        odd = self.device.differences(newer.device)
        for name in ("runtime", "runtime_version", "threads"):
            mine, theirs = getattr(self, name), getattr(newer, name)
            odd += [f"{name} '{mine}' against '{theirs}'"] if mine != theirs else []
        if odd:
            raise ProfileError(
                f"two tables cannot be one: {'; '.join(odd)}",
                where=f"{self.name}, {newer.name}",
                expected="one device, runtime, version and number of threads",
                fix="measure what is missing on one machine: bitfront-measure build",
            )
        return self.merged(newer.entries, newer.date, newer.nodes)

    def require_device(self, device: Device, *, where: str = "") -> None:
        """Refuses a table measured on a machine with other kernels.

        Raises:
            ProfileError: with what differs.
        """
        differences = self.device.differences(device)
        if differences:
            raise ProfileError(
                f"latency table '{self.name}' is of another device: {'; '.join(differences)}",
                where=where,
                expected=f"a table of '{device.name}'",
                fix="measure this machine with bitfront-measure build (profile: auto), or set "
                "device: any to search for the other machine on purpose",
            )

    def save(self, path: Path) -> None:
        """Writes the profile atomically; parent directories are created.

        As Parquet where the name ends in ``.parquet`` (a large table is ten times smaller so),
        else as JSON.
        """
        content = {**_content(self), "hash": self.hash}
        if path.suffix == parquet.SUFFIX:
            parquet.write(path, content)
        else:
            write_atomic(path, json.dumps(content, indent=1) + "\n")


def write_atomic(path: Path, text: str) -> None:
    """Writes a file that readers see whole or not at all; parent directories are created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_profile(path: Path) -> Profile:
    """Reads a profile file.

    Raises:
        ProfileError: missing, truncated, edited, of a newer schema, or with impossible entries.
    """
    data = _read(path)
    version = data.get("schema_version")
    if not isinstance(version, int):
        raise _damaged(path, "it has no schema_version")
    if version > SCHEMA_VERSION:
        raise ProfileError(
            f"latency table has schema version {version}",
            where=path.name,
            expected=f"at most {SCHEMA_VERSION}",
            fix="upgrade bitfront, or measure a new table with bitfront-measure build",
        )
    try:
        profile = _from_content(data)
    except (KeyError, TypeError, AttributeError) as cause:
        raise _damaged(path, f"field {cause} is missing or malformed") from cause
    found = _digest({name: value for name, value in data.items() if name != "hash"})
    if data.get("hash") != found:
        raise _damaged(path, f"its hash is {data.get('hash')}, its content gives {found}")
    return profile


def _read(path: Path) -> dict[str, Any]:
    is_parquet = path.suffix == parquet.SUFFIX
    try:
        data = parquet.read(path) if is_parquet else json.loads(path.read_text())
    except OSError as cause:
        raise ProfileError(
            f"latency table cannot be read: {cause.strerror}",
            where=str(path),
            fix="check the path, or measure a table with bitfront-measure build",
        ) from cause
    except ValueError as cause:
        raise _damaged(path, str(cause) if is_parquet else "it is not whole JSON") from cause
    if not isinstance(data, dict):
        raise _damaged(path, "it is not a JSON object")
    return data


def _damaged(path: Path, why: str) -> ProfileError:
    return ProfileError(
        f"latency table is damaged or was edited: {why}",
        where=path.name,
        expected="an unchanged file written by bitfront-measure",
        fix="restore the file, or delete it and measure again with bitfront-measure build; "
        "to change numbers on purpose, use bitfront-measure import",
    )


def _content(profile: Profile) -> dict[str, Any]:
    """Plain data of a profile without its hash; entries in a canonical order."""
    entries = sorted((_plain(entry) for entry in profile.entries), key=_canonical)
    return {
        "schema_version": SCHEMA_VERSION,
        "name": profile.name,
        "device": _plain(profile.device),
        "runtime": profile.runtime,
        "runtime_version": profile.runtime_version,
        "threads": profile.threads,
        "date": profile.date,
        "protocol": dict(profile.protocol),
        "entries": entries,
        "nodes": sorted((_plain(node) for node in profile.nodes), key=_canonical),
    }


def _from_content(data: Mapping[str, Any]) -> Profile:
    entries = tuple(
        Entry(**{**_tupled(item), "key": EntryKey(**_tupled(item["key"]))})
        for item in data["entries"]
    )
    names = {item.name for item in fields(Profile)}
    rest = {name: data[name] for name in names - {"device", "entries", "nodes"}}
    nodes = tuple(NodeEntry(**item) for item in data.get("nodes", ()))
    device = Device(**_tupled(data["device"]))
    return Profile(device=device, entries=entries, nodes=nodes, **rest)


def _plain(item: Device | Entry | NodeEntry) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(item)))
    # 0 and 0.0 are one number but two texts: a hash must not tell them apart.
    plain.update((name, float(plain[name])) for name in TIMES if name in plain)
    return plain


def _tupled(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}


def _canonical(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def _digest(data: Any) -> str:
    return hashlib.sha256(_canonical(data).encode()).hexdigest()[:16]


def _resident(item: Timed) -> Timed:
    return item if item.resident_ms is None else replace(item, latency_ms=item.resident_ms)
