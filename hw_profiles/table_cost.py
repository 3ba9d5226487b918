"""The additive cost model of search: table look-ups plus the conversions between layers.

Latency of a policy = intercept + slope x (sum of kernel times + conversions). Conversions come
from the runtime's own graphs where it can be asked (:mod:`hw_profiles.conversions`), else from
rules (:mod:`hw_profiles.edges`) with intercept 0 and slope 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hw_profiles import footprint
from hw_profiles.backends.base import Backend
from hw_profiles.cost import Codes, Floats
from hw_profiles.edges import EdgeModel
from hw_profiles.fitted import spread
from hw_profiles.keys import (
    choices_by_layer,
    layer_key,
    layers_missing,
    missing_keys,
)
from hw_profiles.profile import Profile
from quant.errors import ProfileError
from spaces.choices import Choice
from spaces.constraints import combined
from spaces.layers import LayerSpec
from spaces.space import SearchSpace

Cost = Callable[[LayerSpec, Choice], float]


@dataclass(frozen=True)
class Edges:
    """What stands between the layers of a space, in milliseconds.

    Attributes:
        latency_ms: of policies ``int[P, groups]``, ``float[P]``.
        unary_ms: share of each choice of each group, ``float[groups, most choices]``.
        rest_ms: the same for every policy; spread over the groups of the table.
        intercept_ms: added to every policy after ``slope``, likewise.
        slope: factor on table and conversions.
        evidence: what is known of the prediction's error, for the provenance.
    """

    latency_ms: Callable[[Codes], Floats]
    unary_ms: Floats | float = 0.0
    rest_ms: float = 0.0
    intercept_ms: float = 0.0
    slope: float = 1.0
    evidence: Mapping[str, Any] = field(default_factory=dict)


def build_cost_model(
    space: SearchSpace,
    profile: Profile,
    backend: Backend,
    batch: int = 1,
    edges: Edges | None = None,
) -> TableCostModel:
    """Joins a space with a profile that covers it.

    Args:
        space: what can be chosen.
        profile: table of the device.
        backend: tells which kernels choices run as.
        batch: samples per call.
        edges: fitted conversions; by rule when absent.

    Raises:
        ProfileError: entries are missing; lists the layers and the command that measures them.
    """
    require_coverage(space, profile, backend, batch)
    profile = profile.for_weights(footprint.float_bytes(space.layers))
    if edges is None:
        edges = Edges(EdgeModel.build(space, profile, backend, batch).latency_ms)
    tables = group_tables(space, profile, backend, batch)
    scaled = edges.slope * (tables["latency_ms"] + edges.unary_ms)
    tables["latency_ms"] = spread(scaled, edges.slope * edges.rest_ms + edges.intercept_ms)
    provenance = _provenance(space, profile, backend, batch)
    provenance["latency_ms"] |= edges.evidence
    if "energy_mj" in tables:
        known = ("kind", "device", "runtime", "entries")
        provenance["energy_mj"] = {name: provenance["latency_ms"][name] for name in known}
    return TableCostModel(tables, edges, provenance)


def group_tables(
    space: SearchSpace, profile: Profile, backend: Backend, batch: int = 1
) -> dict[str, Floats]:
    """Costs ``{metric: float[groups, most choices]}`` without conversions.

    ``energy_mj`` is there when every entry of the space has one; no energy is made up.
    """

    def latency(layer: LayerSpec, choice: Choice) -> float:
        return profile.by_key[layer_key(backend, layer, choice, batch, profile.threads)].latency_ms

    def energy(layer: LayerSpec, choice: Choice) -> float:
        entry = profile.by_key[layer_key(backend, layer, choice, batch, profile.threads)]
        return math.nan if entry.energy_mj is None else entry.energy_mj

    tables = {
        "size_bytes": _group_table(space, footprint.size_bytes),
        "bops": _group_table(space, footprint.bops),
        "latency_ms": _group_table(space, latency),
        "peak_bytes": _group_table(space, footprint.peak_bytes, max),
    }
    energies = _group_table(space, energy)
    known = np.isfinite(energies).sum() == np.isfinite(tables["latency_ms"]).sum()
    return {**tables, "energy_mj": energies} if known else tables


def require_coverage(
    space: SearchSpace, profile: Profile, backend: Backend, batch: int = 1
) -> None:
    """Refuses a profile that lacks entries of the space.

    Raises:
        ProfileError: lists the layers that lack an entry and the command that measures them.
    """
    missing = missing_keys(space, profile, backend, batch, profile.threads)
    if not missing:
        return
    layers = layers_missing(space, missing, backend, batch, profile.threads)
    shown = ", ".join(layers[:12]) + (f" and {len(layers) - 12} more" if len(layers) > 12 else "")
    raise ProfileError(
        f"latency table '{profile.name}' lacks {len(missing)} entries of space '{space.name}': "
        f"{shown}",
        where=f"profile {profile.hash}",
        expected=f"an entry per layer and choice, for example {missing[0]}",
        fix=f"measure them with: bitfront-measure build task=<task> space={space.name}",
    )


class TableCostModel:
    """Costs of a space from tables; see :class:`hw_profiles.cost.CostModel`."""

    def __init__(
        self, tables: Mapping[str, Floats], edges: Edges, provenance: Mapping[str, Any]
    ) -> None:
        """Keeps ``tables[metric]``, ``float[groups, max choices]``, and the edge terms."""
        self._tables = dict(tables)
        self.metrics = tuple(tables)
        self._edges = edges
        self._provenance = provenance

    def table(self, metric: str) -> Floats:
        """Additive cost of each choice, ``float[groups, max choices]``, NaN-padded."""
        return self._tables[metric]

    def edge_ms(self, codes: Codes) -> Floats:
        """What is not in the table, for policies ``int[P, groups]``, ``float[P]``, ms."""
        return self._edges.slope * self._edges.latency_ms(np.atleast_2d(codes))

    def costs(self, codes: Codes) -> dict[str, Floats]:
        """Costs of policies ``int[P, groups]`` as ``{metric: float[P]}``, edge terms included."""
        codes = np.atleast_2d(np.asarray(codes))
        rows = np.arange(codes.shape[1])
        totals = {name: combined(name, table[rows, codes]) for name, table in self._tables.items()}
        totals["latency_ms"] = totals["latency_ms"] + self.edge_ms(codes)
        return totals

    def provenance(self) -> Mapping[str, Any]:
        """Where each metric comes from, and which choices are storage only."""
        return self._provenance


def _group_table(
    space: SearchSpace, cost: Cost, combine: Callable[[list[float]], float] = sum
) -> Floats:
    """``cost(layer, choice)``, summed or otherwise combined over the layers of each group."""
    width = max(len(group.all_choices) for group in space.groups)
    table = np.full((len(space.groups), width), np.nan)
    for g, group in enumerate(space.groups):
        for c, choice in enumerate(group.all_choices):
            table[g, c] = combine([cost(space.layer_named[name], choice) for name in group.layers])
    return table


def _provenance(
    space: SearchSpace, profile: Profile, backend: Backend, batch: int
) -> dict[str, Any]:
    computed = {"kind": "computed"}
    used = [
        profile.by_key[layer_key(backend, layer, choice, batch, profile.threads)]
        for layer, choice in choices_by_layer(space)
    ]
    kinds = sorted({entry.provenance for entry in used})
    latency = {
        "kind": kinds[0] if len(kinds) == 1 else "mixed",
        "kinds": kinds,
        "device": profile.device.name,
        "runtime": f"{profile.runtime} {profile.runtime_version}",
        "threads": profile.threads,
        "batch": batch,
        "date": profile.date,
        "entries": len(used),
        "preempted": sum(entry.wall_ratio > 1.2 for entry in used),
        "storage_only": _storage_only(space, profile, backend, batch),
        "not_measured": _not_measured(space, profile, backend, batch),
        "validated": False,
    }
    return {
        "profile_hash": profile.hash,
        "profile": profile.name,
        "size_bytes": {**computed, "detail": "packed weights, scales, zero points and biases"},
        "bops": {**computed, "detail": "MACs x weight bits x activation bits"},
        "latency_ms": latency,
        "peak_bytes": {**computed, "detail": "largest input plus output of a layer, one sample"},
    }


def _storage_only(
    space: SearchSpace, profile: Profile, backend: Backend, batch: int
) -> dict[str, dict[str, str]]:
    """``{layer: {choice: reason}}`` of choices without a kernel of their own."""
    found: dict[str, dict[str, str]] = {}
    for layer, choice in choices_by_layer(space):
        reason = backend.supports(layer, choice)
        entry = profile.by_key[layer_key(backend, layer, choice, batch, profile.threads)]
        if reason is None and not entry.genuine:
            reason = f"the runtime executed {', '.join(entry.kernel_ops)} instead"
        if reason is not None:
            found.setdefault(layer.name, {})[choice.text] = reason
    return found


def _not_measured(
    space: SearchSpace, profile: Profile, backend: Backend, batch: int
) -> dict[str, dict[str, str]]:
    """``{layer: {choice: provenance}}`` of entries the device itself did not give."""
    found: dict[str, dict[str, str]] = {}
    for layer, choice in choices_by_layer(space):
        entry = profile.by_key[layer_key(backend, layer, choice, batch, profile.threads)]
        if entry.provenance != "measured":
            found.setdefault(layer.name, {})[choice.text] = entry.provenance
    return found
