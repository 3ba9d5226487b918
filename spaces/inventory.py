"""What a model offers to quantization, read from its traced graph.

torch.fx traces the model and one example runs through the graph, so every layer's shapes are
known. A model fx cannot trace is run with forward hooks instead: the inventory is the same but
nothing is known about what lies between layers, so automatic ties and conversions are missing
and :attr:`TracedModel.warning` says so.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from quant.errors import DataError
from spaces.layers import LayerSpec, SkippedOp

OP_OF: dict[type[nn.Module], str] = {
    nn.Conv1d: "conv1d",
    nn.Conv2d: "conv2d",
    nn.Conv3d: "conv3d",
    nn.ConvTranspose1d: "conv_transpose1d",
    nn.ConvTranspose2d: "conv_transpose2d",
    nn.ConvTranspose3d: "conv_transpose3d",
    nn.Linear: "linear",
}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
RELU_MODULES = (nn.ReLU, nn.ReLU6)
NONNEGATIVE_MODULES = (*RELU_MODULES, nn.Sigmoid, nn.Softmax)
POOLS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
SHAPERS = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Unfold, nn.PixelShuffle)
PASSING_MODULES = (*NORMS, *RELU_MODULES, *POOLS, *SHAPERS)
RELU_CALLS = (F.relu, torch.relu, "relu", "relu_", F.relu6)
NONNEGATIVE_CALLS = (*RELU_CALLS, torch.sigmoid, "sigmoid", F.softmax, torch.softmax, "softmax")
PASSING_CALLS = (
    *RELU_CALLS,
    *(F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.dropout, F.max_pool1d, F.avg_pool1d),
    *(torch.flatten, torch.reshape, torch.transpose, torch.permute, torch.squeeze),
    *("flatten", "reshape", "view", "transpose", "permute", "squeeze", "unsqueeze", "contiguous"),
    *("unflatten", operator.getitem),
)
PRODUCT_CALLS = {
    torch.matmul: "matmul",
    torch.bmm: "bmm",
    operator.matmul: "matmul",
    "matmul": "matmul",
    "bmm": "bmm",
    torch.einsum: "einsum",
    F.linear: "linear",
    F.conv1d: "conv1d",
    F.conv2d: "conv2d",
    F.conv3d: "conv3d",
    F.scaled_dot_product_attention: "attention",
}
UNSUPPORTED_MODULES: dict[type[nn.Module], str] = {
    nn.Embedding: "a look-up, not a matrix product",
    nn.EmbeddingBag: "a look-up, not a matrix product",
    nn.MultiheadAttention: "its weights are packed; use separate linear layers",
    nn.Bilinear: "two inputs",
    nn.LSTM: "recurrent layers are not supported",
    nn.GRU: "recurrent layers are not supported",
    nn.RNN: "recurrent layers are not supported",
}


@dataclass(frozen=True)
class TracedModel:
    """A model's layers and what the tracing learned about their neighbourhood.

    Attributes:
        layers: in execution order.
        skipped: ops with weights or matrix products that stay in float.
        same_input: sets of linear layers that read the very same tensor.
        residual: sets of layers whose outputs meet in one addition.
        shared: sets of layers that hold the very same weight tensor.
        warning: what could not be found out, empty when all is known.
    """

    layers: tuple[LayerSpec, ...]
    skipped: tuple[SkippedOp, ...] = ()
    same_input: tuple[tuple[str, ...], ...] = ()
    residual: tuple[tuple[str, ...], ...] = ()
    shared: tuple[tuple[str, ...], ...] = ()
    warning: str = ""


def trace(model: nn.Module, example_input: Tensor) -> TracedModel:
    """Takes the inventory of ``model``.

    Args:
        model: in eval mode; batch norms may be folded or not.
        example_input: one sample, ``[1, ...]``.

    Returns:
        Layers in execution order. A module called several times is one layer whose MACs add up.

    Raises:
        DataError: the model cannot run the example, or has no quantizable layer.
    """
    calls = _hooked_calls(model, example_input)
    try:
        graph = fx.symbolic_trace(model).graph
    except Exception as cause:
        traced = _from_hooks(model, calls, str(cause).splitlines()[0] if str(cause) else "")
    else:
        traced = _from_graph(model, graph, calls)
    if not traced.layers:
        raise DataError(
            "the model has no quantizable layer",
            where="task.model",
            expected="Conv1d/2d/3d, ConvTranspose1d/2d/3d or Linear modules",
        )
    return replace(traced, shared=_shared_weights(model, traced.layers))


@dataclass
class _Calls:
    """Shapes of every call of one module."""

    inputs: list[tuple[int, ...]] = field(default_factory=list)
    outputs: list[tuple[int, ...]] = field(default_factory=list)


def _hooked_calls(model: nn.Module, example_input: Tensor) -> dict[str, _Calls]:
    """Runs the example and records the calls of quantizable modules, in execution order."""
    calls: dict[str, _Calls] = {}
    hooks = [
        module.register_forward_hook(_recorder(calls, name))
        for name, module in model.named_modules()
        if type(module) in OP_OF
    ]
    try:
        with torch.no_grad():
            model(example_input)
    except (RuntimeError, ValueError, TypeError) as cause:
        raise DataError(
            f"the model cannot run one sample of shape {list(example_input.shape)}: {cause}",
            where="task.model",
            expected="a model that takes a batch of one",
        ) from cause
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _recorder(calls: dict[str, _Calls], name: str) -> Any:
    def record(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen = calls.setdefault(name, _Calls())
        seen.inputs.append(tuple(inputs[0].shape))
        seen.outputs.append(tuple(output.shape))

    return record


def _from_hooks(model: nn.Module, calls: Mapping[str, _Calls], why: str) -> TracedModel:
    layers = tuple(
        replace(_spec(name, model.get_submodule(name), calls[name], index), producers=("@float",))
        for index, name in enumerate(calls)
    )
    warning = (
        f"the model could not be traced ({why}): layers are known, their neighbourhood is not; "
        "tie layers that must agree with space.ties"
    )
    return TracedModel(layers, tuple(_unsupported(model)), warning=warning)


def _from_graph(model: nn.Module, graph: fx.Graph, calls: Mapping[str, _Calls]) -> TracedModel:
    modules = dict(model.named_modules())
    called: dict[str, fx.Node] = {}
    for node in graph.nodes:
        if node.op == "call_module" and str(node.target) in calls:
            called.setdefault(str(node.target), node)
    nodes = {name: called[name] for name in calls if name in called}
    walk = _Walk(modules)
    layers = []
    for index, name in enumerate(calls):
        spec = _spec(name, modules[name], calls[name], index)
        node = nodes.get(name)
        if node is not None:
            spec = replace(
                spec,
                producers=walk.producers(_input(node)),
                fused_with="relu" if walk.feeds_relu(node) else "",
                input_nonnegative=walk.nonnegative(_input(node)),
            )
        layers.append(spec)
    return TracedModel(
        tuple(layers),
        (*_unsupported(model), *_products(graph)),
        _same_input(nodes, modules),
        _residual(graph, walk, set(calls)),
    )


def _spec(name: str, module: nn.Module, calls: _Calls, index: int) -> LayerSpec:
    op = OP_OF[type(module)]
    weight = module.weight
    bias = module.bias
    assert isinstance(weight, Tensor)
    macs = sum(
        _macs(op, module, inputs, outputs)
        for inputs, outputs in zip(calls.inputs, calls.outputs, strict=True)
    )
    spatial = op != "linear"
    return LayerSpec(
        name=name,
        op=op,
        index=index,
        weight_shape=tuple(weight.shape),
        input_shape=calls.inputs[0],
        output_shape=calls.outputs[0],
        stride=tuple(module.stride) if spatial else (),  # type: ignore[arg-type]
        padding=_padding(module) if spatial else (),
        dilation=tuple(module.dilation) if spatial else (),  # type: ignore[arg-type]
        groups=int(module.groups) if spatial else 1,  # type: ignore[arg-type]
        bias=bias is not None,
        params=weight.numel() + (bias.numel() if isinstance(bias, Tensor) else 0),
        macs=macs,
    )


def _macs(op: str, module: nn.Module, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
    """Multiply-accumulates of one call at batch 1.

    A convolution does ``in/groups x kernel`` per output element; a transposed one
    ``out/groups x kernel`` per input element; a linear layer ``in`` per output element.
    """
    weight = module.weight
    assert isinstance(weight, Tensor)
    per_element = math.prod(weight.shape[1:])
    elements = math.prod(inputs[1:]) if "transpose" in op else math.prod(outputs[1:])
    return per_element * elements


def _padding(module: nn.Module) -> tuple[int, ...]:
    padding = module.padding
    if isinstance(padding, str):
        kernel, dilation = module.kernel_size, module.dilation
        same = tuple(
            d * (k - 1) // 2
            for k, d in zip(kernel, dilation, strict=True)  # type: ignore[arg-type]
        )
        return same if padding == "same" else (0,) * len(same)
    return tuple(padding)  # type: ignore[arg-type]


class _Walk:
    """Walks a graph back over ops that keep a quantized tensor quantized."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = modules

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self._modules.get(str(node.target)) if node.op == "call_module" else None

    def is_layer(self, node: fx.Node) -> bool:
        return type(self._module(node)) in OP_OF

    def passes(self, node: fx.Node) -> bool:
        module = self._module(node)
        if module is not None:
            return isinstance(module, PASSING_MODULES)
        return node.op in ("call_function", "call_method") and node.target in PASSING_CALLS

    def source(self, node: Any) -> fx.Node | None:
        """The first node upstream that does more than pass its input on."""
        while isinstance(node, fx.Node) and self.passes(node):
            node = _input(node)
        return node if isinstance(node, fx.Node) else None

    def producers(self, node: Any) -> tuple[str, ...]:
        source = self.source(node)
        if source is None:
            return ("@float",)
        if source.op == "placeholder":
            return ("@input",)
        return (str(source.target),) if self.is_layer(source) else ("@float",)

    def nonnegative(self, node: Any) -> bool:
        """True when a ReLU, sigmoid or softmax is the last op that changes values."""
        while isinstance(node, fx.Node):
            module = self._module(node)
            if isinstance(module, NONNEGATIVE_MODULES) or node.target in NONNEGATIVE_CALLS:
                return True
            if not self.passes(node) or isinstance(module, NORMS):
                return False
            node = _input(node)
        return False

    def feeds_relu(self, node: fx.Node) -> bool:
        """True when the only reader, after a batch norm or what is left of it, is a ReLU."""
        if len(node.users) == 1:
            (reader,) = node.users
            module = self._module(reader)
            if isinstance(module, (*NORMS, nn.Identity)):
                return self.feeds_relu(reader)
            return isinstance(module, RELU_MODULES) or reader.target in RELU_CALLS
        return False


def _input(node: fx.Node) -> Any:
    """The tensor a call works on."""
    return node.args[0] if node.args else node.kwargs.get("input")


def _same_input(
    nodes: Mapping[str, fx.Node], modules: Mapping[str, nn.Module]
) -> tuple[tuple[str, ...], ...]:
    readers: dict[Any, list[str]] = {}
    for name, node in nodes.items():
        if isinstance(modules[name], nn.Linear):
            readers.setdefault(_input(node), []).append(name)
    return tuple(tuple(names) for names in readers.values() if len(names) > 1)


def _residual(graph: fx.Graph, walk: _Walk, names: set[str]) -> tuple[tuple[str, ...], ...]:
    """Layers whose outputs meet in an addition, through batch norms only."""
    found = []
    for node in graph.nodes:
        if node.target not in (operator.add, operator.iadd, torch.add, "add", "add_"):
            continue
        sources = [walk.source(arg) for arg in node.args if isinstance(arg, fx.Node)]
        met = [str(s.target) for s in sources if s is not None and str(s.target) in names]
        if len(set(met)) > 1:
            found.append(tuple(dict.fromkeys(met)))
    return tuple(found)


def _unsupported(model: nn.Module) -> list[SkippedOp]:
    return [
        SkippedOp(name, type(module).__name__, reason)
        for name, module in model.named_modules()
        for kind, reason in UNSUPPORTED_MODULES.items()
        if type(module) is kind
    ]


def _products(graph: fx.Graph) -> list[SkippedOp]:
    return [
        SkippedOp(node.name, PRODUCT_CALLS[node.target], "a product of activations, or functional")
        for node in graph.nodes
        if node.op in ("call_function", "call_method") and node.target in PRODUCT_CALLS
    ]


def _shared_weights(
    model: nn.Module, layers: tuple[LayerSpec, ...]
) -> tuple[tuple[str, ...], ...]:
    holders: dict[int, list[str]] = {}
    for layer in layers:
        holders.setdefault(id(model.get_submodule(layer.name).weight), []).append(layer.name)
    return tuple(tuple(names) for names in holders.values() if len(names) > 1)
