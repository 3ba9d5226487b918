"""A quantized model as an ONNX graph with its true numbers.

Only a static int8 convolution needs something the simulation does not have: a grid behind its
output. Where a layer reads that tensor its own grid serves, and nothing is rounded that was not
rounded in the simulation; else the range is that of the calibration data, and the addition that
reads it sees a rounding the simulation lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor

from hw_profiles.backends.onnxruntime_cpu.kernels import Kernel, kernel_of, runs_as
from hw_profiles.backends.onnxruntime_cpu.lower import Range, Weights
from hw_profiles.backends.onnxruntime_cpu.skeleton import Skeleton, export_skeleton, layer_name
from hw_profiles.backends.onnxruntime_cpu.whole import lower_model
from quant.activations import static_qparams
from quant.affine import QParams
from quant.attach import Quantizer
from quant.calibration import StreamingHistogram
from quant.errors import UsageError
from quant.formats import Format, Granularity, Scheme, Timing, parse_format
from quant.model import QuantizedModel
from quant.numbers import LayerNumbers, layer_numbers
from spaces.choices import Choice
from spaces.layers import LayerSpec

Array = npt.NDArray[Any]
OUTPUT = parse_format("int8ut")
HALF = 128
"""Signed codes shifted by this are the same grid in uint8."""


@dataclass(frozen=True)
class TrueParameters:
    """Numbers of a quantized model in the form of its kernels; see :class:`Parameters`.

    Attributes:
        skeleton: the graph they are for.
        numbers: of every layer.
        kernels: what every layer runs as.
        outputs: see :func:`output_grids`.
    """

    skeleton: Skeleton
    numbers: Mapping[str, LayerNumbers]
    kernels: Mapping[str, Choice]
    outputs: Mapping[str, QParams]

    def weights(self, layer: str, kernel: Choice) -> Weights:
        """Weights of a layer in the form its kernel stores them."""
        found = self.numbers[layer]
        bias = None if found.bias is None else _array(found.bias)
        family = kernel_of(kernel)
        if family is Kernel.FLOAT:
            return Weights(_array(found.computed), bias)
        codes = found.codes
        if codes is None:
            raise UsageError(
                f"layer '{layer}' has no integer codes in {found.choice.weight}",
                where="export",
                expected="a uniform format, its weights on its own grid",
                fix="export with format=torch, or search without the repair of several layers",
            )
        scale = codes.by_channel(codes.scale)
        if found.gain is not None:
            scale = scale * found.gain.reshape(-1, 1)
        if family is not Kernel.NBITS:
            # The bias is rounded to steps of input scale x weight scale: codes of few bits are
            # spread over all eight, so that those steps stay small.
            spread = max(1, np.iinfo(np.int8).max // max(int(codes.values.abs().max()), 1))
            values = (_array(codes.values) * spread).astype(np.int8)
            return Weights(values, bias, _array(scale[:, 0] / spread), bits=8)
        spec, bits = self.skeleton.layers[layer], kernel.weight.bits
        blocks = -(-spec.weight_shape[1] // kernel.weight.group_size)
        zero = None
        if kernel.weight.scheme is Scheme.ASYMMETRIC:
            zero = _blocks(_array(codes.by_channel(codes.zero_point)), blocks)
        return Weights(
            _array(codes.values),
            bias,
            _blocks(_array(scale), blocks).astype(np.float32),
            zero,
            bits,
            kernel.weight.group_size,
        )

    def input_grid(self, layer: str) -> Range:
        """Grid of the tensor entering a static int8 layer."""
        found = self.numbers[layer].input
        assert found is not None, "kernels with static inputs have static formats"
        return uint8_grid(found, nonnegative=self.skeleton.layers[layer].input_nonnegative)

    def output_grid(self, layer: str) -> Range:
        """The reading layer's grid where one serves all readers, else the calibrated range."""
        tensor = self.skeleton.behind_relu(self.skeleton.targets[layer])
        grids = [self._reader_grid(node) for node in self.skeleton.readers.get(tensor, ())]
        whole = next((grid for grid in grids if grid is not None and grid.is_whole), None)
        if whole is not None:
            return whole
        first = grids[0] if grids else None
        if first is not None and all(grid == first for grid in grids):
            return first
        return uint8_grid(self.outputs[layer], nonnegative=False)

    def bias_error(self, layer: str, kernel: Choice) -> Tensor:
        """What rounding the bias of a static int8 layer adds to it, ``[out]``."""
        weights = self.weights(layer, kernel)
        assert weights.scale is not None
        bias = np.zeros(len(weights.scale)) if weights.bias is None else weights.bias
        step = weights.scale.astype(np.float64) * self.input_grid(layer).scale
        return torch.from_numpy((np.rint(bias / step) * step - bias).astype(np.float32))

    def rounded_input(self, layer: str) -> Range | None:
        """Grid of static inputs of layers that compute in float."""
        has_kernel = kernel_of(self.kernels[layer]) is not Kernel.FLOAT
        return None if has_kernel or self.numbers[layer].input is None else self.input_grid(layer)

    def _reader_grid(self, node: onnx.NodeProto) -> Range | None:
        name = layer_name(node)
        return None if name is None or self.numbers[name].input is None else self.input_grid(name)


def uint8_grid(found: QParams, *, nonnegative: bool) -> Range:
    """A static grid of at most 8 bits in uint8 codes.

    Symmetric grids of tensors that are never negative start at code 0, so that the runtime can
    absorb the ReLU before them.
    """
    fmt, zero = found.fmt, int(found.zero_point)
    if nonnegative:
        return Range(float(found.scale), 0, 0, min(fmt.qmax - zero, 255))
    shift = HALF if fmt.qmin < 0 else 0
    return Range(float(found.scale), zero + shift, fmt.qmin + shift, fmt.qmax + shift)


def check_executable(layers: Iterable[LayerSpec], choices: Mapping[str, Choice]) -> None:
    """Refuses inputs that no ONNX operator rounds as the simulation does.

    Raises:
        UsageError: lists the layers and what can be exported.
    """
    bad = [spec.name for spec in layers if not _expressible(spec, choices[spec.name])]
    if bad:
        first = choices[bad[0]].activation
        raise UsageError(
            f"{len(bad)} layers take inputs in formats ONNX has no operator for, the first is "
            f"'{bad[0]}' with {first}",
            where="export format=onnx",
            expected="float32, static int2..int8 with one scale, or int8ut@dynamic in linear "
            "layers",
            fix="format=torch stores any policy",
        )


def _expressible(spec: LayerSpec, choice: Choice) -> bool:
    fmt: Format = choice.activation
    if fmt.kind == "float32":
        return True
    if fmt.kind != "int" or fmt.granularity is not Granularity.TENSOR:
        return False
    if fmt.timing is Timing.STATIC:
        return True
    return kernel_of(runs_as(spec, choice)) in (Kernel.INT8_DYNAMIC, Kernel.NBITS)


@dataclass(frozen=True)
class Deployable:
    """A policy as a graph.

    Attributes:
        model: takes any batch size.
        parameters: the numbers in it.
    """

    model: onnx.ModelProto
    parameters: TrueParameters

    def round_outputs(self, quantized: QuantizedModel) -> None:
        """Gives a model with this policy applied what integer kernels round besides.

        That is biases, to steps of input scale times weight scale, and the outputs of
        convolutions. What then still differs is the order of sums and ties of roundings.
        """
        parameters = self.parameters
        for name, kernel in parameters.kernels.items():
            if kernel_of(kernel) is not Kernel.INT8_STATIC:
                continue
            spec = parameters.skeleton.layers[name]
            grid = None if spec.op == "linear" else parameters.output_grid(name)
            shift = parameters.bias_error(name, kernel)
            if grid is None:
                shift = shift if parameters.input_grid(name).is_whole else 0 * shift
            else:
                shift = shift.reshape(-1, *[1] * (len(spec.output_shape) - 2))
            held = quantized.attachment.held(name)
            quantized.attachment.set_output(name, DeviceOutput(shift, grid, held.output))


@dataclass(frozen=True)
class DeviceOutput:
    """What an integer kernel makes of a layer's output.

    Attributes:
        shift: rounding error of the bias, broadcastable to the output.
        grid: what the output is rounded to, None where it stays float.
        before: correction of a repair, done first.
    """

    shift: Tensor
    grid: Range | None
    before: Quantizer | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """The output as the kernel hands it on, same shape."""
        x = (x if self.before is None else self.before(x)) + self.shift
        if self.grid is None:
            return x
        zero = self.grid.zero_point
        steps = (x / self.grid.scale).round_().add_(zero).clamp_(self.grid.low, self.grid.high)
        return steps.sub_(zero).mul_(self.grid.scale)


def build_graph(
    quantized: QuantizedModel,
    layers: Iterable[LayerSpec],
    choices: Mapping[str, Choice],
    calibration: Iterable[Tensor],
) -> Deployable:
    """The graph of a policy.

    Args:
        quantized: the calibrated model; the policy is applied to it.
        layers: all layers of the space.
        choices: choice of every layer.
        calibration: batches whose outputs give the grids no layer gives.

    Raises:
        UsageError: an input format, weight or operator that ONNX cannot express.
    """
    layers, batches = tuple(layers), list(calibration)
    check_executable(layers, choices)
    quantized.apply(choices)
    numbers = layer_numbers(quantized, choices)
    outputs = output_grids(quantized, layers, batches)
    quantized.float_()
    example = batches[0][:1]
    skeleton = export_skeleton(quantized.module, layers, example, dynamic_batch=True)
    kernels = {spec.name: runs_as(spec, choices[spec.name]) for spec in layers}
    parameters = TrueParameters(skeleton, numbers, kernels, outputs)
    return Deployable(compact(lower_model(skeleton, kernels, parameters)), parameters)


def compact(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with short names; of small models, names are half the file.

    Inputs, outputs and nodes that belong to no layer's kernel keep a meaning: the graph's ends
    their names, nodes none at all.
    """
    graph = model.graph
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return model  # bodies of loops and conditions name tensors of the outer graph
    ends = {value.name for value in (*graph.input, *graph.output)}
    short: dict[str, str] = {}

    def renamed(name: str) -> str:
        if not name or name in ends:
            return name
        return short.setdefault(name, f"t{len(short)}")

    for node in graph.node:
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
        node.ClearField("name")
        node.ClearField("doc_string")
    for item in graph.initializer:
        item.name = renamed(item.name)
        item.ClearField("doc_string")
    graph.ClearField("value_info")
    return model


def output_grids(
    quantized: QuantizedModel, layers: Iterable[LayerSpec], batches: Iterable[Tensor]
) -> dict[str, QParams]:
    """Grid of every layer's output as the model is now, found as grids of inputs are.

    Outputs are taken behind the ReLU where one is fused.
    """
    seen = {spec.name: StreamingHistogram(f"the output of '{spec.name}'") for spec in layers}

    def watch(spec: LayerSpec) -> Any:
        def hook(_: Any, __: Any, output: Tensor) -> None:
            seen[spec.name].update(output.clamp(min=0) if spec.fused_with == "relu" else output)

        return quantized.module.get_submodule(spec.name).register_forward_hook(hook)

    hooks = [watch(spec) for spec in layers]
    try:
        with torch.no_grad():
            for batch in batches:
                quantized(batch)
    finally:
        for hook in hooks:
            hook.remove()
    calibrator = quantized.method.activations()
    return {name: static_qparams(found, OUTPUT, calibrator) for name, found in seen.items()}


def _array(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().numpy())


def _blocks(shared: Array, blocks: int) -> Array:
    """Numbers of ``[out, groups]`` for every block of a kernel; groups are whole blocks."""
    return np.repeat(shared, -(-blocks // shared.shape[1]), axis=1)[:, :blocks]
