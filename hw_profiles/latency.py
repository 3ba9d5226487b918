"""The latency model of one network on this device: conversions, a fitted line, and its check.

Everything here is measured or read once and kept in the cache: the optimised graphs of random
policies explain the conversions, the uniform policies measured end to end give slope and
intercept, and mixed policies drawn by seed tell how far the prediction is from reality.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_profiles.backends.base import Backend, Network, Progress
from hw_profiles.conversions import (
    MOST_PROBES,
    Conversions,
    Probe,
    draw_codes,
    explain,
    measure_unknown,
    node_sum_ms,
    read_graphs,
)
from hw_profiles.fitted import FittedEdges
from hw_profiles.footprint import float_bytes
from hw_profiles.hw import HwConfig
from hw_profiles.profile import Profile, write_atomic
from hw_profiles.store import (
    cache_dir,
    device_mark,
    keep,
    measuring,
    now,
    with_cached_nodes,
)
from hw_profiles.table_cost import Edges, group_tables
from hw_profiles.timing import Protocol
from hw_profiles.validate import (
    BLOCK_MS,
    UNIFORM,
    Drawn,
    EndToEnd,
    OpCheck,
    check_ops,
    draw_checks,
    fit_line,
    measure_end_to_end,
    noise_floor,
)
from spaces.space import SearchSpace

SCHEMA_VERSION = 2
MIXED = 24
MOST_NOISE = 0.10
ATTEMPTS = 3
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Check:
    """One policy, predicted and measured; all times in milliseconds.

    Attributes:
        policy_id: of the policy in its space.
        tag: name of a uniform policy, else empty.
        drawn: ``"uniform"`` (used for the fit) or ``"random"``.
        sum_ms: additive table and conversions, before the fit.
        graph_sum_ms: nodes of the optimised graph, before the fit.
        predicted_ms: ``sum_ms`` after the fit.
        node_sum_ms: ``graph_sum_ms`` after its own fit.
        measured_ms: end to end, CPU time.
        measured_again_ms: a second session of the same policy in the same rounds.
        wall_p50_ms: median wall time of a call.
        wall_p99_ms: 99th percentile of the wall time of a call.
        bops: bit operations of the policy.
        size_bytes: size of the policy.
    """

    policy_id: str
    tag: str
    drawn: str
    sum_ms: float
    graph_sum_ms: float
    predicted_ms: float
    node_sum_ms: float
    measured_ms: float
    measured_again_ms: float
    wall_p50_ms: float
    wall_p99_ms: float
    bops: float
    size_bytes: float


@dataclass(frozen=True)
class LatencyModel:
    """What turns table entries of a space into latencies of policies.

    Attributes:
        conversions: what the network pays between its layers.
        intercept_ms: of the line through the uniform policies.
        slope: of that line.
        checks: policies measured end to end; empty when the device cannot be measured.
        ops: op types of these policies, alone and inside the network.
        seconds: wall time spent on reading graphs and measuring.
    """

    conversions: Conversions
    intercept_ms: float = 0.0
    slope: float = 1.0
    checks: tuple[Check, ...] = ()
    ops: tuple[OpCheck, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> LatencyModel:
        """Reads what :meth:`to_json` wrote."""
        found = dict(data["conversions"])
        found["pairs_ms"] = tuple(tuple(pair) for pair in found["pairs_ms"])
        checks = tuple(Check(**item) for item in data["checks"])
        ops = tuple(OpCheck(**item) for item in data["ops"])
        line = (data["intercept_ms"], data["slope"])
        return LatencyModel(Conversions(**found), *line, checks, ops, data["seconds"])


@dataclass(frozen=True)
class Target:
    """A space on a device: everything a latency model is fitted for."""

    network: Network
    space: SearchSpace
    backend: Backend
    hw: HwConfig

    @property
    def key(self) -> str:
        """Hash of all that decides which kernels run."""
        options = {
            name: sorted(
                self.backend.runs_as(self.space.layer_named[name], choice).text
                for choice in group.all_choices
            )
            for group in self.space.groups
            for name in group.layers
        }
        ties = [list(group.layers) for group in self.space.groups]
        data = [self.network.signature, options, ties, self.hw.batch, self.hw.seed]
        data += [self.backend.name, self.backend.version, self.backend.protocol]
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def fit_latency(
    target: Target, profile: Profile, progress: Progress, mixed: int = MIXED
) -> tuple[LatencyModel, Profile]:
    """Reads graphs, times new nodes, measures the check; returns the profile with the nodes."""
    rng = np.random.default_rng(target.hw.seed)
    checks = draw_checks(target.space, target.backend, mixed, rng)
    codes = draw_codes(target.space, rng, MOST_PROBES)
    parts = (target.network, target.space)
    found, profile = explain(*parts, profile, target.backend, codes, target.hw.batch, progress)
    rows = np.array([check.codes for check in checks])
    chosen = read_graphs(*parts, target.backend, rows, progress)
    timed = measure_unknown(chosen, profile, target.backend, progress)
    profile = profile.merged((), now(), timed)
    seen = profile.for_weights(float_bytes(target.space.layers))
    measured = _measured(target, chosen, progress, rng)
    model = _fitted(target, seen, found, checks, chosen, measured)
    progress(f"profiling {len(chosen)} policies op by op")
    ops = check_ops(target.network, target.space, checks, chosen, measured, seen.node_ms)
    return replace(model, ops=ops), profile


def _measured(
    target: Target, probes: Sequence[Probe], progress: Progress, rng: np.random.Generator
) -> list[EndToEnd]:
    """Measures until the noise floor is bearable, a few times at most; keeps the best."""
    protocol = Protocol(rounds=target.hw.rounds, block_ms=BLOCK_MS)
    best: list[EndToEnd] = []
    for _ in range(ATTEMPTS):
        progress(f"measuring {len(probes)} policies end to end, twice each")
        found = measure_end_to_end(target.network, probes, protocol, rng)
        if not best or noise_floor(found) < noise_floor(best):
            best = found
        if noise_floor(best) <= MOST_NOISE:
            break
    return best


def _fitted(
    target: Target,
    profile: Profile,
    found: Conversions,
    drawn: Sequence[Drawn],
    probes: Sequence[Probe],
    measured: Sequence[EndToEnd],
) -> LatencyModel:
    codes = np.array([item.codes for item in drawn])
    tables = group_tables(target.space, profile, target.backend, target.hw.batch)
    edges = FittedEdges.of(target.space, target.backend, found)
    rows = np.arange(codes.shape[1])
    layers = (tables["latency_ms"] + edges.unary_ms)[rows, codes].sum(1)
    sums = layers + edges.latency_ms(codes) + found.rest_ms
    graphs = np.array([node_sum_ms(probe.nodes, profile.node_ms) for probe in probes])
    times = np.array([(item.measured_ms + item.again_ms) / 2 for item in measured])
    uniform = np.array([item.drawn == UNIFORM for item in drawn])
    intercept, slope = fit_line(sums[uniform], times[uniform])
    at_zero, per_node = fit_line(graphs[uniform], times[uniform])
    checks = tuple(
        Check(
            policy_id=target.space.policy(item.codes).policy_id,
            tag=item.tag,
            drawn=item.drawn,
            sum_ms=float(sums[i]),
            graph_sum_ms=float(graphs[i]),
            predicted_ms=float(intercept + slope * sums[i]),
            node_sum_ms=float(at_zero + per_node * graphs[i]),
            measured_ms=measured[i].measured_ms,
            measured_again_ms=measured[i].again_ms,
            wall_p50_ms=measured[i].wall_p50_ms,
            wall_p99_ms=measured[i].wall_p99_ms,
            bops=float(tables["bops"][rows, item.codes].sum()),
            size_bytes=float(tables["size_bytes"][rows, item.codes].sum()),
        )
        for i, item in enumerate(drawn)
    )
    return LatencyModel(found, intercept, slope, checks)


def load_or_fit(
    target: Target, profile: Profile, progress: Progress, *, again: bool = False
) -> tuple[LatencyModel, Profile, float]:
    """The latency model from the cache, or a new one; the profile gains the nodes it times.

    Args:
        target: space, network and device; the profile is of this very device.
        profile: covers the space.
        progress: told what is being done.
        again: measure anew even when a model is cached.

    Returns:
        Model, profile and the seconds spent now (0 when the model was cached).
    """
    path = cached_latency(target, device_mark(profile.device))
    known = None if again else load_latency(path)
    if known is not None:
        return known, with_cached_nodes(profile, target.backend, target.hw), 0.0
    with measuring(progress):
        profile = with_cached_nodes(profile, target.backend, target.hw)
        known = None if again else load_latency(path)
        if known is not None:
            return known, profile, 0.0
        start = time.perf_counter()
        model, profile = fit_latency(target, profile, progress)
        keep(profile, target.backend, target.hw)
        model = save_latency(path, model, time.perf_counter() - start)
        return model, profile, model.seconds


def edges_of(space: SearchSpace, backend: Backend, model: LatencyModel) -> Edges:
    """Edge terms of a cost model."""
    fitted = FittedEdges.of(space, backend, model.conversions)
    rest_ms = model.conversions.rest_ms
    return Edges(fitted.latency_ms, fitted.unary_ms, rest_ms, model.intercept_ms, model.slope)


def cached_latency(target: Target, mark: str) -> Path:
    """File of a latency model; ``mark`` tells the device apart."""
    return cache_dir() / "latency" / f"{target.backend.name}-{mark}-{target.key}.json"


def load_latency(path: Path) -> LatencyModel | None:
    """A cached model, or None when there is none that can be read."""
    try:
        data = json.loads(path.read_text())
        if data["schema_version"] != SCHEMA_VERSION:
            return None
        return LatencyModel.from_json(data)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save_latency(path: Path, model: LatencyModel, seconds: float) -> LatencyModel:
    """Writes a model atomically and returns it with its cost."""
    model = replace(model, seconds=seconds)
    write_atomic(path, json.dumps(model.to_json(), indent=1) + "\n")
    return model
