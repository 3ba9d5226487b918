"""An exported file judged in its runtime: the same samples, the same statistics, real time.

Two simulations stand beside it. The *searched* one is what the study scored. The *device* one
also rounds biases and the outputs of convolutions, as the runtime's kernels do; what differs from
that is the translation's own doing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hw_profiles.timing import Protocol
from hw_profiles.validate import EndToEnd, measure_sessions, noise_floor
from search.exporting.artefact import Artefact, choices_of, deployable, onnx_call
from search.exporting.run import Run
from search.stats import wilson
from spaces.policy import Policy

REFERENCES = ("fp32", "w8a8")
ROUNDS = 12


def compare(run: Run, policy: Policy, artefact: Artefact) -> dict[str, Any]:
    """Answers of the file on the test split against both simulations.

    Args:
        run: the run the policy is of.
        policy: the policy.
        artefact: its file; one that nothing executes has no answers.
    """
    if artefact.logits is None:
        return {}
    split, size = run.task.test, run.task.batch_size
    searched = run.evaluator.logits(policy, "test")
    parts = [artefact.logits(batch) for batch in torch.split(split.inputs, size)]
    deployed = torch.cat([torch.as_tensor(part) for part in parts])
    found: dict[str, Any] = {
        "split": "test",
        "n": split.n,
        "simulated": _judged(searched, split.labels),
        "deployed": _judged(deployed, split.labels),
        **_between(searched, deployed, split.labels),
    }
    if artefact.graph is not None:
        quantized = run.evaluator.quantized
        quantized.apply(choices_of(policy))
        artefact.graph.round_outputs(quantized)
        with torch.no_grad():
            device = torch.cat([quantized(batch) for batch in torch.split(split.inputs, size)])
        quantized.float_()
        found["device_simulated"] = _judged(device, split.labels)
        found["against_device_simulation"] = _between(device, deployed, split.labels)
    return found


def _judged(logits: Tensor, labels: Tensor) -> dict[str, float]:
    losses = F.cross_entropy(logits.double(), labels, reduction="none")
    n, right = len(labels), int((logits.argmax(1) == labels).sum())
    low, high = wilson(right, n)
    return {
        "accuracy": right / n,
        "accuracy_low": low,
        "accuracy_high": high,
        "ce": float(losses.mean()),
        "standard_error": float(losses.std()) / n**0.5 if n > 1 else 0.0,
    }


def _between(first: Tensor, second: Tensor, labels: Tensor) -> dict[str, float]:
    """Agreement of the first places, and the largest difference of a logit."""
    same = first.argmax(1) == second.argmax(1)
    right = [int((logits.argmax(1) == labels).sum()) for logits in (first, second)]
    return {
        "agreement": float(same.double().mean()),
        "accuracy_difference_samples": right[1] - right[0],
        "largest_logit_difference": float((first - second).abs().max()),
        "largest_logit": float(first.abs().max()),
    }


def measure(run: Run, artefacts: Mapping[str, Artefact]) -> dict[str, dict[str, Any]]:
    """Latency of files by policy id, interleaved with the float model and uniform int8.

    It is that of ``bitfront-measure validate``: CPU time of one thread, two sessions of every
    file in the same rounds, wall percentiles apart. Files whose runtime is not the one the
    study's table is of are not measured, nor are models that a device runs in another form.
    """
    opened = {name: item.open for name, item in artefacts.items() if item.open is not None}
    if not opened or run.task.deployed is not None:
        return {}
    references = [tag for tag in REFERENCES if tag in run.tags]
    graphs = {tag: deployable(run, run.policy(run.tags[tag])).model for tag in references}
    sessions = [
        *opened.values(),
        *(lambda graph=graph: onnx_call(graph, run) for graph in graphs.values()),
    ]
    rng = np.random.default_rng(0)
    found = measure_sessions(sessions, Protocol(rounds=ROUNDS), rng)
    beside = dict(zip(references, map(_times, found[len(opened) :]), strict=True))
    noise = noise_floor(found)
    return {
        name: {**_times(item), "references": beside, "noise": noise, "batch": 1, "threads": 1}
        for name, item in zip(opened, found[: len(opened)], strict=True)
    }


def _times(found: EndToEnd) -> dict[str, float]:
    return {
        "measured_ms": (found.measured_ms + found.again_ms) / 2,
        "low_ms": min(found.measured_ms, found.again_ms),
        "high_ms": max(found.measured_ms, found.again_ms),
        "wall_p50_ms": found.wall_p50_ms,
        "wall_p99_ms": found.wall_p99_ms,
    }


def summary(record: Mapping[str, Any]) -> Sequence[str]:
    """What a person wants to know of an export, a line each."""
    lines = []
    if "deployed" in record:
        deployed, simulated = record["deployed"], record["simulated"]
        half = 50 * (deployed["accuracy_high"] - deployed["accuracy_low"])
        lines.append(
            f"accuracy  {100 * deployed['accuracy']:.1f} ± {half:.1f} % in {record['runtime']}, "
            f"{100 * simulated['accuracy']:.1f} % simulated ({record['n']} test samples)"
        )
        lines.append(
            f"answers   {100 * record['agreement']:.2f} % the same, logits differ by at most "
            f"{record['largest_logit_difference']:.3g} of {record['largest_logit']:.3g}"
        )
    if "against_device_simulation" in record:
        other = record["against_device_simulation"]
        lines.append(
            f"          {100 * other['agreement']:.2f} % the same as the simulation that also "
            "rounds biases and outputs as integer kernels do"
        )
    if record.get("predicted_bytes"):
        lines.append(
            f"size      {sum(record['files'].values()):,} bytes, predicted "
            f"{record['predicted_bytes']:,}"
        )
    if record.get("latency"):
        lines += _latency_lines(record)
    return lines


def _latency_lines(record: Mapping[str, Any]) -> list[str]:
    found = record["latency"]
    predicted = record["predicted"].get("latency_ms")
    against = f", predicted {predicted:.4f}" if predicted else ""
    lines = [
        f"latency   {found['measured_ms']:.4f} ms ({found['low_ms']:.4f} to "
        f"{found['high_ms']:.4f}){against}; wall p50 {found['wall_p50_ms']:.4f}, "
        f"p99 {found['wall_p99_ms']:.4f}"
    ]
    for tag, other in found["references"].items():
        ratio = other["measured_ms"] / found["measured_ms"]
        lines.append(f"          {ratio:.2f}x as fast as {tag} ({other['measured_ms']:.4f} ms)")
    return lines
