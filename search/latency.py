"""How far predicted latencies are from reality: the figures of an end-to-end check.

Figures are over mixed policies drawn by seed; the uniform ones fitted the line. The noise floor is
the difference between two sessions of the same policy in the same rounds, and a prediction is
compared with the mean of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from hw_profiles.backends.base import Backend
from hw_profiles.hw import AUTO, HwConfig
from hw_profiles.latency import Check, LatencyModel, Target, edges_of, load_or_fit
from hw_profiles.profile import Profile
from hw_profiles.table_cost import Edges
from hw_profiles.validate import RANDOM
from quant.errors import UsageError
from search.stats import bootstrap_pairs, kendall_tau
from search.tasks.base import Task
from spaces.space import SearchSpace

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Accuracy:
    """Error of one predictor over the mixed policies.

    Attributes:
        mape: mean absolute error relative to the measurement.
        bias: mean signed error relative to the measurement.
        tau: Kendall's tau of prediction and measurement.
        tau_low: lower end of its 95 % bootstrap interval over policies.
        tau_high: upper end.
    """

    mape: float
    bias: float
    tau: float
    tau_low: float
    tau_high: float


@dataclass(frozen=True)
class Figures:
    """What one check says.

    Attributes:
        n: mixed policies measured.
        additive: the table with conversions, fitted on the uniform policies.
        node_sum: nodes of each policy's own optimised graph, fitted on the uniform policies.
        raw_mape: error of the additive sum before the fit.
        noise: mean relative difference between two sessions of one policy.
        self_tau: Kendall's tau between the two sessions.
        bops_tau: Kendall's tau of bit operations and measurement.
        size_tau: Kendall's tau of size and measurement.
    """

    n: int
    additive: Accuracy
    node_sum: Accuracy
    raw_mape: float
    noise: float
    self_tau: float
    bops_tau: float
    size_tau: float


def figures(checks: Sequence[Check], seed: int = 0) -> Figures | None:
    """The figures of a check; None when no mixed policy was measured."""
    table = frame(checks)
    table = table[table["drawn"] == RANDOM]
    if table.empty:
        return None

    def column(name: str) -> Floats:
        return table[name].to_numpy(dtype=np.float64)

    first, second = column("measured_ms"), column("measured_again_ms")
    measured = (first + second) / 2
    return Figures(
        n=len(table),
        additive=_accuracy(column("predicted_ms"), measured, seed),
        node_sum=_accuracy(column("node_sum_ms"), measured, seed),
        raw_mape=float(np.mean(np.abs(column("sum_ms") - measured) / measured)),
        noise=float(np.mean(np.abs(first - second) / measured)),
        self_tau=kendall_tau(first, second),
        bops_tau=kendall_tau(column("bops"), measured),
        size_tau=kendall_tau(column("size_bytes"), measured),
    )


def _accuracy(predicted: Floats, measured: Floats, seed: int) -> Accuracy:
    error = (predicted - measured) / measured
    low, high = bootstrap_pairs(predicted, measured, np.random.default_rng(seed), kendall_tau)
    tau = kendall_tau(predicted, measured)
    return Accuracy(float(np.abs(error).mean()), float(error.mean()), tau, low, high)


def frame(checks: Sequence[Check]) -> pd.DataFrame:
    """Rows of ``latency_check.parquet``."""
    names = list(Check.__dataclass_fields__)
    rows = pd.DataFrame([asdict(check) for check in checks], columns=names)
    sessions = rows[["measured_ms", "measured_again_ms"]]
    return rows.assign(low_ms=sessions.min(axis=1), high_ms=sessions.max(axis=1))


@dataclass(frozen=True)
class Predictor:
    """What a study knows about latency on its device.

    Attributes:
        edges: conversions for the cost model of a space with these layers; None leaves them to
            rules.
        profile: the table, with the nodes timed for the conversions.
        checks: policies measured end to end, empty when the device was not measured.
        seconds: spent now; 0 when all came from the cache.
    """

    edges: Callable[[SearchSpace], Edges] | None
    profile: Profile
    checks: tuple[Check, ...] = ()
    seconds: float = 0.0


def predictor(
    task: Task,
    space: SearchSpace,
    profile: Profile,
    backend: Backend,
    hw: HwConfig,
    say: Callable[[str], None],
) -> Predictor:
    """Conversions and check of a task on this machine, measured once and cached.

    A table of another device, a model the runtime cannot translate and ``check: false`` leave
    conversions to rules and the prediction unchecked; the reason is said.
    """
    if hw.profile != AUTO or not hw.check:
        return Predictor(None, profile)
    try:
        on_device = task.on_device
        network = backend.network(on_device.model, space.layers, on_device.example_input)
    except UsageError as error:
        say(f"warning: latency is predicted by rule and not checked end to end: {error}")
        return Predictor(None, profile)
    model, profile, seconds = load_or_fit(Target(network, space, backend, hw), profile, say)

    def edges(found: SearchSpace) -> Edges:
        return replace(edges_of(found, backend, model), evidence=evidence(model))

    return Predictor(edges, profile, model.checks, seconds)


def evidence(model: LatencyModel) -> dict[str, object]:
    """What the provenance of a latency says about its error."""
    found = figures(model.checks)
    line = {"intercept_ms": model.intercept_ms, "slope": model.slope}
    graphs = {"graphs_read": model.conversions.probes, "graph_error": model.conversions.error}
    if found is None:
        return {"validated": False, "fit": line, "conversions": graphs}
    return {"validated": True, "fit": line, "conversions": graphs, "check": asdict(found)}
