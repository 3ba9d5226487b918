"""How far predicted latencies are from reality: the figures of an end-to-end check.

Figures are over mixed policies drawn by seed; the uniform ones fitted the line. The noise floor is
the difference between two sessions of the same policy in the same rounds, and a prediction is
compared with the mean of the two. Plain arithmetic on ``latency_check.parquet``: reports use it
where neither the model nor the runtime is installed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from search.stats import bootstrap_pairs, kendall_tau

Floats = npt.NDArray[np.float64]
UNIFORM, RANDOM = "uniform", "random"
"""How checked policies were drawn: the line was fitted on uniform ones, errors are of the others.
"""


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


@dataclass(frozen=True)
class OpFigures:
    """Nodes of one op type over the mixed policies that have any.

    Attributes:
        op: op type of the optimised graphs.
        policies: how many have such nodes.
        node_us: mean time of one such node inside the networks, microseconds.
        share: of the time of all nodes inside the networks.
        error: sum of the table's absolute errors over the sum of times inside the networks;
            a mean of ratios would be one of the smallest times, which are the least certain.
        bias: sum of the signed errors, likewise.
    """

    op: str
    policies: int
    node_us: float
    share: float
    error: float
    bias: float


def op_figures(ops: pd.DataFrame) -> tuple[OpFigures, ...]:
    """How far the table is off for each op type, the dearest first.

    Args:
        ops: rows of ``latency_ops.parquet`` (``docs/run_directory.md``). Without mixed policies
            the uniform ones are judged. Rows below the profiler's resolution are left out.
    """
    rows = ops[ops["drawn"] == RANDOM] if (ops["drawn"] == RANDOM).any() else ops
    total = rows["measured_ms"].sum()
    found = []
    for op, part in rows[rows["measured_ms"] > 0].groupby("op", sort=True):
        spent = float(part["measured_ms"].sum())
        off = (part["predicted_ms"] - part["measured_ms"]) / spent
        found.append(
            OpFigures(
                op=str(op),
                policies=len(part),
                node_us=1e3 * spent / float(part["nodes"].sum()),
                share=spent / float(total),
                error=float(off.abs().sum()),
                bias=float(off.sum()),
            )
        )
    return tuple(sorted(found, key=lambda item: -item.share))


def figures(checks: pd.DataFrame, seed: int = 0) -> Figures | None:
    """The figures of a check; None when no mixed policy was measured.

    Args:
        checks: rows of ``latency_check.parquet`` (``docs/run_directory.md``), with all columns.
        seed: of the bootstrap over policies.
    """
    table = checks[checks["drawn"] == RANDOM]
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
