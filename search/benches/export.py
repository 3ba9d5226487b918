"""Exported files against their simulations: answers, size, time, latency.

Float32, uniform int8 and mixed policies drawn by seed are exported by the same code as
``bitfront-export``, answer the whole test split in ONNX Runtime and are timed. Two simulations
are compared: the searched one, and the one with the roundings that integer kernels add. The
integer-only reference (suite ``integer``) follows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from search.api import compose_plain
from search.benches import integer
from search.benches.base import Figure, figure
from search.exporting.run import Run
from search.exporting.write import Options, export
from search.plan import devices_of as devices
from search.plan import load_task, resolve_space
from search.settings import Settings
from search.tasks.synthetic import with_calibration
from spaces.baselines import uniform_policies
from spaces.inventory import trace

CASES = (("digits_resnet", "w2348"), ("digits_vit", "cpu_ort"), ("digits_vit", "w2348"))
MIXED = 12
AGREEMENT, SECONDS, SAMPLES = 0.995, 30.0, 1.0
SLACK = 64 * 1024


def run(config: Mapping[str, Any]) -> Iterator[Figure]:
    """Figures of every case; the given task and space when they are not the defaults."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    given = (str(config["task"]["name"]), str(config["space"]["name"]))
    cases = CASES if given in (CASES[0], ("digits_resnet", "w2348")) else (given,)
    try:
        for task, space in cases:
            yield from _case(task, space)
        yield from integer.run(config)
    finally:
        torch.set_num_threads(threads)


def _case(task: str, space: str) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        opened = opened_run(task, space, Path(folder))
        names = list(opened.front["policies"])
        records = export(opened, names, Options("onnx", command="bitfront-bench export"))
    yield from figures(f"{task} {space}", records)


def opened_run(task: str, space: str, folder: Path) -> Run:
    """A run of nothing but uniform and random policies."""
    settings = Settings.from_dict(compose_plain([f"task={task}", f"space={space}"]))
    made = with_calibration(load_task(settings), settings.method)
    traced = trace(made.on_device.model, made.on_device.example_input)
    resolved = resolve_space(settings.space, traced, devices(settings))
    uniform = [item for item in uniform_policies(resolved) if item[0] in ("fp32", "w8a8")]
    drawn = resolved.sample(np.random.default_rng(0), MIXED)
    tagged = [*uniform, *(("", codes) for codes in drawn)]
    policies = {
        resolved.policy(codes).policy_id: {"tag": tag, "codes": _text(codes), "accuracy": 0.0}
        for tag, codes in tagged
    }
    front = {"policies": policies, "fronts": {}, "picks": []}
    return Run(folder, settings, made, resolved, front, {"command": ""})


def figures(case: str, records: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    """What the records of one case say; worst cases, since bars are for every policy."""

    def worst(name: str, unit: str, values: Sequence[float], **more: Any) -> Figure:
        pick = min if more.get("better") == "higher" else max
        return figure("export", case, name, [pick(values)], unit, **more)

    for word, found in (
        ("searched", records),
        ("device", [record["against_device_simulation"] for record in records]),
    ):
        yield worst(
            f"least_agreement_with_{word}_simulation",
            "share",
            [item["agreement"] for item in found],
            bar=AGREEMENT,
            better="higher",
        )
        yield worst(
            f"largest_accuracy_difference_to_{word}_simulation",
            "samples",
            [abs(item["accuracy_difference_samples"]) for item in found],
            bar=SAMPLES,
        )
    agreements = [record["agreement"] for record in records]
    yield figure("export", case, "agreement_of_policies", agreements, "share", better="higher")
    beyond = [
        abs(sum(r["files"].values()) - r["predicted_bytes"]) - 0.02 * r["predicted_bytes"] - SLACK
        for r in records
    ]
    yield worst("bytes_beyond_2_percent_and_64_KiB", "bytes", beyond, bar=0.0)
    yield worst("export_and_judge", "s", [record["seconds"] for record in records], bar=SECONDS)
    times = [record["latency"] for record in records if record.get("latency")]
    if times:
        beside = times[0]["references"]
        ratio = beside["fp32"]["measured_ms"] / beside["w8a8"]["measured_ms"]
        yield figure("export", case, "uniform_int8_over_fp32_speed", [ratio], "ratio", bar=1.0,
                     better="higher")  # fmt: skip


def _text(codes: Sequence[int] | np.ndarray[Any, Any]) -> str:
    from search.records import encode_codes

    return encode_codes(tuple(int(code) for code in codes))
