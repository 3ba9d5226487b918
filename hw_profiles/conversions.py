"""What a network pays between its layers, read off the runtime's own optimised graphs.

A runtime inserts, merges and drops layout and type conversions by rules that no table of isolated
layers can know. They need no timing to be learned: for random policies the runtime is asked which
nodes it would execute, known node times are summed, and what the layers' own entries leave over
is explained by least squares with

    rest(policy) = rest of the network + sum_l u[l, kernel_l] + sum_(l,m) v[l,m] s_l s_m

where ``s_l`` tells whether layer ``l`` takes integers and (l, m) are neighbours. More graphs are
read until those left out of the fit are explained well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw_profiles.backends.base import Backend, GraphNode, Kernels, Network, Progress
from hw_profiles.footprint import float_bytes
from hw_profiles.keys import FLOAT_EDGE, layer_key
from hw_profiles.profile import NodeEntry, Profile
from spaces.space import SearchSpace

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

HELD_OUT = 0.2
PROBES_PER_TERM = 1.5
LEAST_PROBES, MOST_PROBES = 30, 400
MORE_PROBES = 1.5
GOOD_ERROR = 0.01


@dataclass(frozen=True)
class Conversions:
    """The explanation of one network on one device.

    Attributes:
        rest_ms: nodes that belong to no choice (pooling, additions, normalisation, ...).
        unary_ms: ``{layer: {kernel text: ms}}`` on top of the layer's table entry.
        pairs_ms: ``(layer, layer, ms)``; added when both take integers, negative where that
            saves conversions.
        probes: policies whose graphs were read.
        error: mean relative difference to the node sum on probes left out of the fit.
    """

    rest_ms: float
    unary_ms: Mapping[str, Mapping[str, float]]
    pairs_ms: tuple[tuple[str, str, float], ...]
    probes: int
    error: float


def kernels_of(space: SearchSpace, backend: Backend, codes: Sequence[int] | Codes) -> Kernels:
    """What every layer runs as under a policy ``int[groups]``."""
    return {
        name: backend.runs_as(space.layer_named[name], group.all_choices[int(code)])
        for group, code in zip(space.groups, codes, strict=True)
        for name in group.layers
    }


def draw_codes(space: SearchSpace, rng: np.random.Generator, n: int) -> Codes:
    """Random mixed policies ``int[n, groups]`` over all choices, baseline-only ones included.

    Every policy draws its own shares of the choices (so that mostly-int8 and mostly-float ones
    occur); half of them keep a choice over a run of neighbouring groups.
    """
    sizes = [len(group.all_choices) for group in space.groups]
    rows = []
    for turn in range(n):
        preference = rng.gamma(0.7, size=max(sizes))
        change = 0.3 if turn % 2 else 1.0
        row, last = [], rng.random()
        for size in sizes:
            last = rng.random() if rng.random() < change else last
            share = np.cumsum(preference[:size]) / preference[:size].sum()
            row.append(min(int(np.searchsorted(share, last)), size - 1))
        rows.append(row)
    return np.array(rows, dtype=np.int64)


def node_sum_ms(nodes: Sequence[GraphNode], node_ms: Mapping[str, float]) -> float:
    """Time of an optimised graph as the sum of its nodes."""
    return sum(node_ms[node.id] for node in nodes)


def layer_sum_ms(
    space: SearchSpace, profile: Profile, backend: Backend, codes: Codes, batch: int
) -> float:
    """Sum of the layers' own table entries."""
    return sum(
        profile.by_key[layer_key(backend, space.layer_named[name], choice, batch)].latency_ms
        for group, code in zip(space.groups, codes, strict=True)
        for name, choice in ((name, group.all_choices[int(code)]) for name in group.layers)
    )


@dataclass(frozen=True)
class Probe:
    """The optimised graph of one policy."""

    codes: Codes
    kernels: Kernels
    nodes: tuple[GraphNode, ...]


def read_graphs(
    network: Network, space: SearchSpace, backend: Backend, codes: Codes, progress: Progress
) -> list[Probe]:
    """Asks the runtime what it would execute for each policy ``int[n, groups]``."""
    probes = []
    for turn, row in enumerate(codes):
        kernels = kernels_of(space, backend, row)
        probes.append(Probe(row, kernels, tuple(network.nodes(kernels))))
        if (turn + 1) % 50 == 0:
            progress(f"read {turn + 1} of {len(codes)} optimised graphs")
    return probes


def probe_count(network: Network, space: SearchSpace) -> int:
    """How many graphs a fit begins with: some more than it has terms."""
    terms = len(network.neighbours) + sum(
        len(group.all_choices) * len(group.layers) for group in space.groups
    )
    return int(np.clip(PROBES_PER_TERM * terms, LEAST_PROBES, MOST_PROBES))


def unknown_nodes(probes: Sequence[Probe], profile: Profile) -> list[GraphNode]:
    """Nodes of the probes the profile has no time for, each once."""
    found = {node.id: node for probe in probes for node in probe.nodes}
    return [node for name, node in found.items() if name not in profile.node_ms]


def fit(
    network: Network,
    space: SearchSpace,
    profile: Profile,
    backend: Backend,
    probes: Sequence[Probe],
    batch: int,
) -> Conversions:
    """Explains what the layers' entries leave over; see the module docstring.

    ``profile`` must know every node of the probes.
    """
    terms = _Terms.of(network, space, backend)
    design = np.array([terms.row(probe.kernels) for probe in probes])
    whole = np.array([node_sum_ms(probe.nodes, profile.node_ms) for probe in probes])
    layers = [layer_sum_ms(space, profile, backend, probe.codes, batch) for probe in probes]
    rest = whole - np.array(layers)
    kept = max(round(len(probes) * (1 - HELD_OUT)), 1)
    trial = _solve(design[:kept], rest[:kept], whole[:kept])
    off = np.abs(design[kept:] @ trial - rest[kept:]) / whole[kept:]
    solution = _solve(design, rest, whole)
    return terms.conversions(solution, len(probes), float(off.mean()) if off.size else 0.0)


def _solve(design: Floats, rest: Floats, whole: Floats) -> Floats:
    """Least squares on relative errors; smallest solution where terms cannot be told apart."""
    solution = np.linalg.lstsq(design / whole[:, None], rest / whole, rcond=1e-8)[0]
    return np.asarray(solution, dtype=np.float64)


@dataclass(frozen=True)
class _Terms:
    """Columns of the fit: a constant, every kernel but a layer's first, and neighbours."""

    unary: tuple[tuple[str, str], ...]
    pairs: tuple[tuple[str, str], ...]
    integer: Mapping[tuple[str, str], bool]

    @staticmethod
    def of(network: Network, space: SearchSpace, backend: Backend) -> _Terms:
        options: dict[str, dict[str, bool]] = {}
        for group in space.groups:
            for name in group.layers:
                layer = space.layer_named[name]
                kernels = [backend.runs_as(layer, choice) for choice in group.all_choices]
                options[name] = {k.text: backend.edges(layer, k)[0] != FLOAT_EDGE for k in kernels}
        varied = {name for name, found in options.items() if len(set(found.values())) > 1}
        return _Terms(
            tuple((name, text) for name, found in options.items() for text in list(found)[1:]),
            tuple(pair for pair in network.neighbours if varied.issuperset(pair)),
            {
                (name, text): flag
                for name, found in options.items()
                for text, flag in found.items()
            },
        )

    def row(self, kernels: Kernels) -> list[float]:
        """Values of all terms for one policy."""
        takes = {name: self.integer[name, kernel.text] for name, kernel in kernels.items()}
        unary = [float(kernels[name].text == text) for name, text in self.unary]
        pairs = [float(takes[first] and takes[second]) for first, second in self.pairs]
        return [1.0, *unary, *pairs]

    def conversions(self, solution: Floats, probes: int, error: float) -> Conversions:
        """Names the coefficients."""
        values = [float(value) for value in solution]
        unary: dict[str, dict[str, float]] = {}
        for (name, text), value in zip(self.unary, values[1:], strict=False):
            unary.setdefault(name, {})[text] = value
        coupled = values[1 + len(self.unary) :]
        pairs = tuple((*pair, value) for pair, value in zip(self.pairs, coupled, strict=True))
        return Conversions(values[0], unary, pairs, probes, error)


def explain(
    network: Network,
    space: SearchSpace,
    profile: Profile,
    backend: Backend,
    codes: Codes,
    batch: int,
    progress: Progress,
) -> tuple[Conversions, Profile]:
    """Reads graphs of ``codes``, in order, until a fit is good or none are left.

    Args:
        network: the model in the runtime.
        space: its layers and choices.
        profile: covers the space; nodes it does not know are timed.
        backend: tells which kernels choices run as.
        codes: random policies ``int[n, groups]``.
        batch: samples per call.
        progress: told what is being done.

    Returns:
        The fit, and the profile with the nodes.
    """
    weights = float_bytes(space.layers)
    probes: list[Probe] = []
    wanted = probe_count(network, space)
    while True:
        progress(f"reading the optimised graphs of {wanted} policies")
        probes += read_graphs(network, space, backend, codes[len(probes) : wanted], progress)
        timed = measure_unknown(probes, profile, backend, progress)
        profile = profile.merged((), profile.date, timed)
        found = fit(network, space, profile.for_weights(weights), backend, probes, batch)
        if found.error <= GOOD_ERROR or wanted >= len(codes):
            return found, profile
        wanted = min(round(MORE_PROBES * wanted), len(codes))


def measure_unknown(
    probes: Sequence[Probe], profile: Profile, backend: Backend, progress: Progress
) -> list[NodeEntry]:
    """Times every node of the probes the profile does not know."""
    missing = unknown_nodes(probes, profile)
    return backend.measure_nodes(missing, progress) if missing else []
