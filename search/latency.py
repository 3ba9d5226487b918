"""What a study knows about latency on its device: conversions, the table, and its check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import pandas as pd

from hw_profiles.backends.base import Backend
from hw_profiles.hw import AUTO, HwConfig
from hw_profiles.latency import Check, LatencyModel, Target, edges_of, load_or_fit
from hw_profiles.profile import Profile
from hw_profiles.table_cost import Edges
from hw_profiles.validate import OpCheck
from quant.errors import UsageError
from search.latency_figures import figures
from search.tasks.base import Task
from spaces.space import SearchSpace


def ops_frame(checks: Sequence[OpCheck]) -> pd.DataFrame:
    """Rows of ``latency_ops.parquet``."""
    return pd.DataFrame([asdict(item) for item in checks], columns=list(OpCheck.__annotations__))


def frame(checks: Sequence[Check]) -> pd.DataFrame:
    """Rows of ``latency_check.parquet``."""
    rows = pd.DataFrame([asdict(item) for item in checks], columns=list(Check.__annotations__))
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
        ops: op types of these policies, alone and inside the network.
        seconds: spent now; 0 when all came from the cache.
    """

    edges: Callable[[SearchSpace], Edges] | None
    profile: Profile
    checks: tuple[Check, ...] = ()
    ops: tuple[OpCheck, ...] = ()
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

    return Predictor(edges, profile, model.checks, model.ops, seconds)


def evidence(model: LatencyModel) -> dict[str, object]:
    """What the provenance of a latency says about its error."""
    found = figures(frame(model.checks))
    line = {"intercept_ms": model.intercept_ms, "slope": model.slope}
    graphs = {"graphs_read": model.conversions.probes, "graph_error": model.conversions.error}
    if found is None:
        return {"validated": False, "fit": line, "conversions": graphs}
    return {"validated": True, "fit": line, "conversions": graphs, "check": asdict(found)}
