"""ONNX Runtime sessions for timing: one thread, bound buffers, rotating copies of the weights."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

PROVIDERS = ["CPUExecutionProvider"]
NUMPY_TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


def session_options(optimized: Path | None = None) -> ort.SessionOptions:
    """Single-threaded options; ``optimized`` is where the optimised graph is saved."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return options


def open_session(model: onnx.ModelProto, optimized: Path | None = None) -> ort.InferenceSession:
    """Loads a model on the CPU provider."""
    options = session_options(optimized)
    return ort.InferenceSession(model.SerializeToString(), options, providers=PROVIDERS)


def optimized_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph the runtime executes for ``model``, weights included."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        open_session(model, path)
        return onnx.load(path)


def op_types(model: onnx.ModelProto) -> tuple[str, ...]:
    """Op types of a graph in execution order."""
    return tuple(node.op_type for node in model.graph.node)


def bound_call(
    sessions: Sequence[ort.InferenceSession], rng: np.random.Generator
) -> Callable[[], None]:
    """A call that runs the sessions in turn on the same activation buffers.

    Weights then stream from beyond the private caches, as they do inside a network, while
    activations stay warm.
    """
    source, target = sessions[0].get_inputs()[0], sessions[0].get_outputs()[0]
    inputs = ort.OrtValue.ortvalue_from_numpy(_random(source.shape, source.type, rng))
    outputs = ort.OrtValue.ortvalue_from_numpy(np.zeros(target.shape, NUMPY_TYPES[target.type]))
    turns = []
    for session in sessions:
        binding = session.io_binding()
        binding.bind_ortvalue_input(source.name, inputs)
        binding.bind_ortvalue_output(target.name, outputs)
        turns.append((session, binding))
    position, count = 0, len(turns)

    def call() -> None:
        nonlocal position
        session, binding = turns[position]
        position = (position + 1) % count
        session.run_with_iobinding(binding)

    return call


def _random(
    shape: Sequence[int], kind: str, rng: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    if NUMPY_TYPES[kind] is np.uint8:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return np.abs(rng.standard_normal(math.prod(shape), dtype=np.float32)).reshape(shape)
