"""Exported files and the runtimes that execute them, one small class per format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import torch
from torch import Tensor

from hw_profiles.backends.base import Call
from hw_profiles.backends.onnxruntime_cpu.kernels import runs_as, supports
from hw_profiles.backends.onnxruntime_cpu.models import INPUT
from hw_profiles.backends.onnxruntime_cpu.session import bound_call, open_session
from hw_profiles.footprint import size_bytes
from quant.errors import UsageError
from quant.model import QuantizedModel
from search.exporting.graph import Deployable, build_graph
from search.exporting.run import Run
from search.exporting.state import pack_state, read, restore, save
from spaces.choices import Choice
from spaces.policy import Policy

FORMATS = ("onnx", "openvino", "torch", "json")


@dataclass(frozen=True)
class Artefact:
    """A policy in a file.

    Attributes:
        format: one of :data:`FORMATS`.
        path: the file a runtime opens.
        files: bytes of everything written, by name.
        predicted_bytes: what the cost model says the file holds: the layers as the runtime
            stores them, and all other tensors.
        runs_as: kernel of each layer, and why where it is not the choice's own.
        runtime: what executes it, with its version; empty when nothing does.
        logits: answers of the runtime, None when nothing executes it.
        open: opens a session for one sample; None when latency is not measured.
        graph: what was lowered, for the simulation of the device's own roundings.
    """

    format: str
    path: Path
    files: Mapping[str, int]
    predicted_bytes: int
    runs_as: Mapping[str, Mapping[str, str]]
    runtime: str = ""
    logits: Callable[[Tensor], Tensor] | None = None
    open: Callable[[], Call] | None = None
    graph: Deployable | None = None


class Writer(Protocol):
    """Writes a policy into an empty folder."""

    def __call__(self, run: Run, policy: Policy, folder: Path, *, coded: bool) -> Artefact:
        """Everything a runtime needs; raises UsageError before writing what cannot run."""
        ...


def deployable(run: Run, policy: Policy) -> Deployable:
    """The graph of a policy with true numbers; see :func:`build_graph`."""
    batches = list(torch.split(run.task.calibration.inputs, run.task.batch_size))
    layers = run.space.layers
    return build_graph(run.evaluator.quantized, layers, choices_of(policy), batches)


def choices_of(policy: Policy) -> dict[str, Choice]:
    """Choice of every layer."""
    return {name: policy[name] for name in policy}


def onnx_call(model: onnx.ModelProto, run: Run) -> Call:
    """One sample through a graph, shapes fixed."""
    feed = {INPUT: run.task.search.inputs[:1].contiguous().numpy()}
    return bound_call([open_session(model, batch=1)], np.random.default_rng(0), feed)


def write_onnx(run: Run, policy: Policy, folder: Path, *, coded: bool) -> Artefact:
    """An ONNX graph for ONNX Runtime; ``coded`` is refused, no runtime decodes it."""
    if coded:
        raise UsageError("no runtime decodes Huffman words", where="coded", fix="format=torch")
    graph = deployable(run, policy)
    path = folder / "model.onnx"
    onnx.save(graph.model, path)
    session = open_session(graph.model)

    def logits(inputs: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {INPUT: inputs.contiguous().numpy()})[0])

    import onnxruntime

    return Artefact(
        "onnx",
        path,
        {path.name: path.stat().st_size},
        onnx_bytes(graph),
        _kernels(run, policy),
        f"onnxruntime {onnxruntime.__version__}",
        logits,
        lambda: onnx_call(graph.model, run),
        graph,
    )


def write_openvino(run: Run, policy: Policy, folder: Path, *, coded: bool) -> Artefact:
    """OpenVINO's own files, translated from the ONNX graph.

    Raises:
        UsageError: OpenVINO is not installed.
    """
    try:
        import openvino
    except ImportError as cause:
        raise UsageError(
            "OpenVINO is not installed", where="format=openvino", fix="pip install openvino"
        ) from cause
    first = write_onnx(run, policy, folder, coded=coded)
    path = folder / "model.xml"
    openvino.save_model(openvino.convert_model(first.path), path, compress_to_fp16=False)
    first.path.unlink()
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", settings)

    def logits(inputs: Tensor) -> Tensor:
        return torch.from_numpy(next(iter(compiled(inputs.contiguous().numpy()).values())))

    files = {item.name: item.stat().st_size for item in sorted(folder.iterdir())}
    runtime = f"openvino {openvino.__version__.split('-')[0]}"
    assert first.graph is not None
    return Artefact(
        "openvino", path, files, first.predicted_bytes, {}, runtime, logits, None, first.graph
    )


def write_torch(run: Run, policy: Policy, folder: Path, *, coded: bool) -> Artefact:
    """Packed tensors, any format; they are read back into fake-quantized modules."""
    quantized = run.evaluator.quantized
    state = pack_state(quantized, choices_of(policy), policy.policy_id, coded=coded)
    path = folder / "model.safetensors"
    save(state, path)
    module = restore(read(path), run.task.model)

    def logits(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            answer: Tensor = module(inputs)
        return answer

    layers = sum(size_bytes(spec, policy[spec.name]) for spec in run.space.layers)
    rest = sum(t.numel() * t.element_size() for n, t in state.tensors.items() if "::" not in n)
    return Artefact(
        "torch",
        path,
        {path.name: path.stat().st_size},
        layers + rest,
        {},
        f"torch {torch.__version__}",
        logits,
    )


def write_json(run: Run, policy: Policy, folder: Path, *, coded: bool) -> Artefact:
    """Choices, input grids and weight scales as JSON, for tools of one's own."""
    del coded
    quantized = run.evaluator.quantized
    path = folder / "policy.json"
    content = {
        "schema_version": 1,
        "policy_id": policy.policy_id,
        "task": run.task.name,
        "weights_hash": run.task.weights_hash,
        "layers": {name: _grids(quantized, name, policy[name]) for name in policy},
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    return Artefact("json", path, {path.name: path.stat().st_size}, 0, {})


def _grids(quantized: QuantizedModel, name: str, choice: Choice) -> dict[str, Any]:
    found: dict[str, Any] = {"choice": choice.text}
    if choice.weight.kind == "int":
        grid = quantized.weight_quantizer(name, choice.weight, choice.method).qparams  # type: ignore[union-attr]
        found["weight_scale"] = grid.scale.reshape(-1).tolist()
        found["weight_zero_point"] = grid.zero_point.reshape(-1).tolist()
    quantizer = quantized.input_quantizer(name, choice.activation)
    grid = getattr(quantizer, "qparams", None)
    if grid is not None:
        found["input_scale"], found["input_zero_point"] = float(grid.scale), int(grid.zero_point)
    return found


def onnx_bytes(graph: Deployable) -> int:
    """Bytes of the numbers in a graph: layers as their kernels store them, the rest as it is."""
    skeleton = graph.parameters.skeleton
    layers = sum(
        size_bytes(skeleton.layers[name], kernel)
        for name, kernel in graph.parameters.kernels.items()
    )
    return layers + sum(len(item.raw_data) for item in skeleton.model.graph.initializer)


def _kernels(run: Run, policy: Policy) -> dict[str, dict[str, str]]:
    found = {}
    for spec in run.space.layers:
        choice = policy[spec.name]
        reason = supports(spec, choice)
        found[spec.name] = {
            "choice": choice.text,
            "runs_as": runs_as(spec, choice).text,
            **({"storage_only": reason} if reason else {}),
        }
    return found


WRITERS: Mapping[str, Writer] = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "torch": write_torch,
    "json": write_json,
}
