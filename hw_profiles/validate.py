"""Policies measured end to end beside their predictions: how far a table is from reality.

Policies are drawn by seed, never chosen. Every one runs in two sessions, interleaved with all
others in every round: the difference between the two is the noise floor no prediction can pass.
Time is the CPU clock of one thread; wall-clock percentiles are taken in a separate pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from hw_profiles.backends.base import Backend, Call, Network
from hw_profiles.conversions import Probe, draw_codes, kernels_of
from hw_profiles.timing import Protocol, time_interleaved
from spaces.baselines import uniform_policies
from spaces.space import SearchSpace

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

UNIFORM, RANDOM = "uniform", "random"
WALL_CALLS = 200
BLOCK_MS = 8.0
PROFILED_CALLS = 60


@dataclass(frozen=True)
class Drawn:
    """A policy to check, how it was drawn, and the tag of a uniform one."""

    codes: Codes
    drawn: str
    tag: str = ""


@dataclass(frozen=True)
class EndToEnd:
    """Time of one policy on the device, milliseconds.

    Attributes:
        measured_ms: CPU time of one call, 20th percentile over rounds.
        again_ms: the same of a second session of the same policy, in the same rounds.
        wall_p50_ms: median wall time of single calls.
        wall_p99_ms: 99th percentile of the wall time of single calls.
    """

    measured_ms: float
    again_ms: float
    wall_p50_ms: float
    wall_p99_ms: float


@dataclass(frozen=True)
class OpCheck:
    """Nodes of one op type in one policy: timed alone, and inside the network.

    Attributes:
        policy_id: of the policy in its space.
        drawn: ``"uniform"`` or ``"random"``.
        op: op type of the optimised graph.
        nodes: how many.
        predicted_ms: sum of their entries in the table.
        measured_ms: their time inside the whole network, by the runtime's profiler, without
            what the profiler itself costs a node.
    """

    policy_id: str
    drawn: str
    op: str
    nodes: int
    predicted_ms: float
    measured_ms: float


def check_ops(
    network: Network,
    space: SearchSpace,
    drawn: Sequence[Drawn],
    probes: Sequence[Probe],
    measured: Sequence[EndToEnd],
    node_ms: Mapping[str, float],
) -> tuple[OpCheck, ...]:
    """Every op type of every policy, predicted and measured; see :class:`OpCheck`.

    A profiler costs microseconds a node, as much as a small node takes. By how much the profiled
    nodes exceed the policy's end-to-end time is therefore shared out equally among them.

    Args:
        network: the model in the runtime.
        space: of the policies.
        drawn: the policies.
        probes: their optimised graphs, in the same order.
        measured: their end-to-end times, in the same order.
        node_ms: time of every node alone.
    """
    found = []
    for item, probe, whole in zip(drawn, probes, measured, strict=True):
        policy_id = space.policy(item.codes).policy_id
        times = network.op_times(probe.kernels, PROFILED_CALLS)
        alone: dict[str, list[float]] = {}
        for node in probe.nodes:
            alone.setdefault(node.op, []).append(node_ms[node.id])
        excess = sum(times.values()) - (whole.measured_ms + whole.again_ms) / 2
        cost = max(excess, 0.0) / len(probe.nodes)
        for op, each in alone.items():
            inside = max(times.get(op, 0.0) - cost * len(each), 0.0)
            found.append(OpCheck(policy_id, item.drawn, op, len(each), sum(each), inside))
    return tuple(found)


def draw_checks(
    space: SearchSpace, backend: Backend, mixed: int, rng: np.random.Generator
) -> list[Drawn]:
    """The uniform policies and ``mixed`` random ones that run differently from all others.

    Fewer are returned when the space has fewer distinct kernel assignments.
    """
    found: dict[tuple[str, ...], Drawn] = {}

    def add(item: Drawn) -> None:
        kernels = kernels_of(space, backend, item.codes)
        found.setdefault(tuple(kernel.text for kernel in kernels.values()), item)

    for tag, codes in uniform_policies(space):
        add(Drawn(codes, UNIFORM, tag))
    uniform = len(found)
    for codes in draw_codes(space, rng, 20 * mixed):
        if len(found) == uniform + mixed:
            break
        add(Drawn(codes, RANDOM))
    return list(found.values())


def measure_end_to_end(
    network: Network, probes: Sequence[Probe], protocol: Protocol, rng: np.random.Generator
) -> list[EndToEnd]:
    """Times whole networks, all policies and their repetitions interleaved."""
    sessions = [partial(network.call, probe.kernels) for probe in probes]
    return measure_sessions(sessions, protocol, rng)


def measure_sessions(
    sessions: Sequence[Callable[[], Call]], protocol: Protocol, rng: np.random.Generator
) -> list[EndToEnd]:
    """Times whatever ``sessions`` open, two sessions each, all interleaved in every round."""
    calls: dict[tuple[int, int], Call] = {
        (index, turn): session() for index, session in enumerate(sessions) for turn in (0, 1)
    }
    timings = time_interleaved(calls, protocol, rng)
    wall = _wall_ms({index: calls[index, 0] for index in range(len(sessions))}, rng)
    return [
        EndToEnd(
            timings[index, 0].statistic_ms(memory_bound=False),
            timings[index, 1].statistic_ms(memory_bound=False),
            float(np.quantile(wall[index], 0.5)),
            float(np.quantile(wall[index], 0.99)),
        )
        for index in range(len(sessions))
    ]


def noise_floor(found: Sequence[EndToEnd]) -> float:
    """Mean relative difference between two sessions of one policy."""
    return float(
        np.mean(
            [
                2 * abs(item.measured_ms - item.again_ms) / (item.measured_ms + item.again_ms)
                for item in found
            ]
        )
    )


def _wall_ms(
    calls: Mapping[int, Call], rng: np.random.Generator, count: int = WALL_CALLS, block: int = 10
) -> dict[int, Floats]:
    """Wall time of single calls, ``float[count]`` each, in interleaved blocks."""
    found: dict[int, list[float]] = {index: [] for index in calls}
    names = list(calls)
    for _ in range(count // block):
        for place in rng.permutation(len(names)):
            call = calls[names[place]]
            call()
            for _ in range(block):
                start = time.perf_counter_ns()
                call()
                found[names[place]].append((time.perf_counter_ns() - start) / 1e6)
    return {index: np.array(values) for index, values in found.items()}


def fit_line(predicted: Floats, measured: Floats) -> tuple[float, float]:
    """Intercept and slope of ``measured = a + b predicted`` by least squares on relative errors.

    One distinct prediction, or a slope that is not positive, leaves the slope of a line through
    the origin.
    """
    weight = 1 / measured
    design = np.stack([weight, predicted * weight], axis=1)
    if np.ptp(predicted) > 1e-9 * predicted.max():
        (intercept, slope), *_ = np.linalg.lstsq(design, np.ones(len(measured)), rcond=None)
        if slope > 0:
            return float(intercept), float(slope)
    return 0.0, float(np.sum(predicted * weight) / np.sum((predicted * weight) ** 2))
