"""ONNX Runtime sessions for timing: one thread, bound buffers, rotating copies of the weights."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

PROVIDERS = ["CPUExecutionProvider"]
NUMPY_TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int64)": np.int64}
BATCH_AXIS = "batch"
PERCENTILE = 0.2


def session_options(optimized: Path | None = None, batch: int | None = None) -> ort.SessionOptions:
    """Single-threaded options.

    Args:
        optimized: where the optimised graph is saved.
        batch: size of the axis named ``batch`` where a graph leaves it open: the runtime then
            computes all shapes once.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    if batch is not None:
        options.add_free_dimension_override_by_name(BATCH_AXIS, batch)
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return options


def open_session(
    model: onnx.ModelProto, optimized: Path | None = None, batch: int | None = None
) -> ort.InferenceSession:
    """Loads a model on the CPU provider; see :func:`session_options`."""
    options = session_options(optimized, batch)
    return ort.InferenceSession(model.SerializeToString(), options, providers=PROVIDERS)


def open_optimized(model: onnx.ModelProto) -> ort.InferenceSession:
    """Loads a graph the runtime has optimised before, as it is."""
    options = session_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
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
    sessions: Sequence[ort.InferenceSession],
    rng: np.random.Generator,
    inputs: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] | None = None,
) -> Callable[[], None]:
    """A call that runs the sessions in turn on the same activation buffers.

    Weights then stream from beyond the private caches, as they do inside a network, while
    activations stay warm.

    Args:
        sessions: copies of one model with static shapes.
        rng: draws the inputs that are not given.
        inputs: value of each graph input.
    """
    given = inputs or {
        item.name: _random(item.shape, item.type, rng) for item in sessions[0].get_inputs()
    }
    values = {name: ort.OrtValue.ortvalue_from_numpy(value) for name, value in given.items()}
    turns = []
    for session in sessions:
        binding = session.io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        turns.append((session, binding))
    _bind_outputs(turns)
    position, count = 0, len(turns)

    def call() -> None:
        nonlocal position
        session, binding = turns[position]
        position = (position + 1) % count
        session.run_with_iobinding(binding)

    return call


def profiled_ms(
    model: onnx.ModelProto,
    feed: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]],
    calls: int,
) -> dict[str, float]:
    """Time per op type inside a whole graph, by the runtime's profiler.

    Args:
        model: the graph.
        feed: value of each graph input.
        calls: how often it runs; the first call is left out.

    Returns:
        ``{op type: ms}``: for every node the 20th percentile over calls, summed. The profiler
        counts whole microseconds of wall time, so ops of many tiny nodes come out too small by
        up to half a microsecond a node.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = session_options()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(model.SerializeToString(), options, providers=PROVIDERS)
        for _ in range(calls + 1):
            session.run(None, dict(feed))
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            args = event["args"]
            times.setdefault((args["op_name"], args["node_index"]), []).append(event["dur"] / 1e3)
    found: dict[str, float] = {}
    for (op, _), values in times.items():
        found[op] = found.get(op, 0.0) + float(np.quantile(values[1:], PERCENTILE))
    return found


def _bind_outputs(turns: Sequence[tuple[ort.InferenceSession, ort.IOBinding]]) -> None:
    """Lets the first session allocate its outputs once; all others write there too."""
    session, binding = turns[0]
    names = [item.name for item in session.get_outputs()]
    for name in names:
        binding.bind_output(name)
    session.run_with_iobinding(binding)
    buffers = binding.get_outputs()
    for _, other in turns:
        for name, buffer in zip(names, buffers, strict=True):
            other.bind_ortvalue_output(name, buffer)


def _random(
    shape: Sequence[int], kind: str, rng: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    if NUMPY_TYPES[kind] is np.uint8:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    if NUMPY_TYPES[kind] is np.int64:
        return np.zeros(shape, np.int64)
    return np.abs(rng.standard_normal(math.prod(shape), dtype=np.float32)).reshape(shape)
