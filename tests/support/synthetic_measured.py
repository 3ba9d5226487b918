"""What a synthetic run measured: whole policies, their op types, an exported file."""

import numpy as np
import pandas as pd

from search import files


def write_latency_check(path, front, recipe):
    rng = np.random.default_rng(3)
    chosen = list(front["policies"].items())[: recipe.measured]
    rows = []
    for policy_id, item in chosen:
        predicted = item["latency_ms"]
        measured = 0.04 + 1.03 * predicted * rng.normal(1, 0.03)
        rows.append(
            {
                "policy_id": policy_id,
                "tag": item["tag"],
                "predicted_ms": predicted,
                "drawn": "uniform" if item["tag"] else "random",
                "measured_ms": measured * 0.98,
                "measured_again_ms": measured * 1.02,
                "low_ms": measured * 0.98,
                "high_ms": measured * 1.02,
                "node_sum_ms": measured * 0.95,
                "wall_p50_ms": measured * 1.01,
                "wall_p99_ms": measured * 1.3,
                "sum_ms": predicted * 0.9,
                "graph_sum_ms": measured * 0.8,
                "bops": item["bops"],
                "size_bytes": item["size_bytes"],
            }
        )
    files.write_table(path / "latency_check.parquet", pd.DataFrame(rows))


OPS = {"QLinearConv": (0.5, 1.0), "QuantizeLinear": (0.2, 0.8), "Conv": (0.3, 1.1)}
"""Share of a policy's latency, and how much longer nodes take inside the network."""


def write_latency_ops(path, front, recipe):
    rng = np.random.default_rng(4)
    rows = []
    for policy_id, item in list(front["policies"].items())[: recipe.measured]:
        for op, (share, slower) in OPS.items():
            predicted = share * item["latency_ms"]
            rows.append(
                {
                    "policy_id": policy_id,
                    "drawn": "uniform" if item["tag"] else "random",
                    "op": op,
                    "nodes": 7,
                    "predicted_ms": predicted,
                    "measured_ms": predicted * slower * rng.normal(1, 0.03),
                }
            )
    files.write_table(path / "latency_ops.parquet", pd.DataFrame(rows))


def write_export(path, front):
    """The knee as an exported file, timed beside the baselines."""
    pick = next(p["policy_id"] for p in front["picks"] if p["role"] == "knee")
    entry = front["policies"][pick]
    test = entry.get("test", entry)

    def timed(ms):
        return {"measured_ms": ms, "low_ms": 0.99 * ms, "high_ms": 1.01 * ms}

    folder = path / "exports" / f"{pick}-onnx"
    folder.mkdir(parents=True)
    files.write_json(
        folder / "export.json",
        {
            "policy_id": pick,
            "format": "onnx",
            "runtime": "onnxruntime 1.0",
            "n": 600,
            "deployed": {**test, "accuracy_low": 0.9, "accuracy_high": 0.99},
            "simulated": test,
            "agreement": 0.9983,
            "files": {"model.onnx": 120_000},
            "predicted_bytes": 110_000,
            "predicted": {"latency_ms": 0.2},
            "latency": {
                **timed(0.21),
                "noise": 0.01,
                "references": {"fp32": timed(0.4), "w8a8": timed(0.21)},
            },
        },
    )
