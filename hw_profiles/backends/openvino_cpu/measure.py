"""Times OpenVINO kernels on one thread; the runtime graph names the kernels and their share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov

from hw_profiles.backends.base import Progress
from hw_profiles.backends.built import Bench, Built, copies_of
from hw_profiles.backends.openvino_cpu.kernels import PRECISIONS, Kernel
from hw_profiles.backends.openvino_cpu.lower import (
    example_input,
    identity_model,
    kernel_family,
    kernel_model,
)
from hw_profiles.profile import Entry, EntryKey
from hw_profiles.timing import Protocol

NO_WORK = frozenset({"Input", "Output", "Const"})
LAYOUT = frozenset({"Reorder", "Reshape", "Transpose"})
"""Nodes at the ends of an isolated layer that a network shares or drops."""
PROFILED_CALLS = 20
CONVERSIONS = ("quantize", "dequantize")
REFERENCE = EntryKey(
    "conv2d", (64, 64, 3, 3), (1, 64, 28, 28), (1, 64, 28, 28), (1, 1), (1, 1), (1, 1),
    weight_format="float32", activation_format="float32",
)  # fmt: skip


def measure_keys(
    keys: Sequence[EntryKey], timing: Protocol, rotate_bytes: int, seed: int, progress: Progress
) -> list[Entry]:
    """Times every key on one thread; entries in the order of ``keys``."""
    rng = np.random.default_rng(seed)
    core = ov.Core()

    def build(key: EntryKey) -> Built:
        return build_key(core, key, copies_of(key, rotate_bytes), rng)

    idle = _request(_compiled(core, identity_model(), "f32"), np.zeros(1, np.float32))
    reference = build_key(core, REFERENCE, 1, rng).call
    return Bench(build, reference, idle, timing, rng).entries(keys, progress)


def build_key(core: ov.Core, key: EntryKey, copies: int, rng: np.random.Generator) -> Built:
    """The kernel of a key, compiled, with what the runtime says of it."""
    conversion = key.op in CONVERSIONS
    family = Kernel.FLOAT if conversion else kernel_family(key)
    precision = "bf16" if family is Kernel.BFLOAT16 else "f32"
    model, x = kernel_model(key, copies, rng), example_input(key, rng)
    compiled = _compiled(core, model, precision)
    kernels = executed(compiled)
    if not conversion:
        kernels = [item for item in kernels if item[0] not in LAYOUT]
    genuine = conversion or any(p in PRECISIONS[family] for _, _, p in kernels)
    share = 1.0 if conversion else kernel_share(core, model, precision, x)
    ops = tuple(dict.fromkeys(f"{kind} {name}" for kind, name, _ in kernels))
    return Built(_request(compiled, x), copies, ops, genuine, share)


def executed(compiled: ov.CompiledModel) -> list[tuple[str, str, str]]:
    """``(type, kernel, precision)`` of every node that works, as the runtime graph names them."""
    found = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind, kernel, precision = (
            _text(info, name) for name in ("layerType", "primitiveType", "runtimePrecision")
        )
        if kind not in NO_WORK:
            found.append((kind, kernel, precision))
    return found


def kernel_share(core: ov.Core, model: ov.Model, precision: str, x: Any) -> float:
    """Part of a call that is not layout conversion, by the runtime's own node times."""
    request = _compiled(core, model, precision, PERF_COUNT=True).create_infer_request()
    request.set_input_tensor(ov.Tensor(x))
    total = layout = 0.0
    for call in range(PROFILED_CALLS):
        request.infer()
        for item in request.get_profiling_info() if call else ():
            spent = item.real_time.total_seconds()
            total += spent
            layout += spent if item.node_type in LAYOUT else 0.0
    return 1.0 - layout / total if total else 1.0


def _compiled(
    core: ov.Core, model: ov.Model, precision: str, **options: object
) -> ov.CompiledModel:
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": precision,
        **options,
    }
    return core.compile_model(model, "CPU", settings)


def _request(compiled: ov.CompiledModel, x: Any) -> Any:
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(x))
    return request.infer


def _text(info: Any, name: str) -> str:
    return str(info[name].astype(str)) if name in info else ""
