"""What lies between layers in a traced graph: producers, fused activations, natural ties."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from spaces.skipped import OP_OF

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
ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")


class Walk:
    """Walks a graph back over ops that keep a quantized tensor quantized."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = modules

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module a node calls, if it calls one."""
        return self._modules.get(str(node.target)) if node.op == "call_module" else None

    def is_layer(self, node: fx.Node) -> bool:
        """True for calls of quantizable modules."""
        return type(self.module(node)) in OP_OF

    def passes(self, node: fx.Node) -> bool:
        """True for ops that keep a quantized tensor quantized (activation, pooling, reshape)."""
        module = self.module(node)
        if module is not None:
            return isinstance(module, PASSING_MODULES)
        return node.op in ("call_function", "call_method") and node.target in PASSING_CALLS

    def source(self, node: Any) -> fx.Node | None:
        """The first node upstream that does more than pass its input on."""
        while isinstance(node, fx.Node) and self.passes(node):
            node = input_of(node)
        return node if isinstance(node, fx.Node) else None

    def producers(self, node: Any) -> tuple[str, ...]:
        """See :attr:`spaces.layers.LayerSpec.producers`."""
        source = self.source(node)
        if source is None:
            return ("@float",)
        if source.op == "placeholder":
            return ("@input",)
        return (str(source.target),) if self.is_layer(source) else ("@float",)

    def nonnegative(self, node: Any) -> bool:
        """True when a ReLU, sigmoid or softmax is the last op that changes values."""
        while isinstance(node, fx.Node):
            module = self.module(node)
            if isinstance(module, NONNEGATIVE_MODULES) or node.target in NONNEGATIVE_CALLS:
                return True
            if not self.passes(node) or isinstance(module, NORMS):
                return False
            node = input_of(node)
        return False

    def feeds_relu(self, node: fx.Node) -> bool:
        """True when the only reader, after a batch norm or what is left of it, is a ReLU."""
        if len(node.users) == 1:
            (reader,) = node.users
            module = self.module(reader)
            if isinstance(module, (*NORMS, nn.Identity)):
                return self.feeds_relu(reader)
            return isinstance(module, RELU_MODULES) or reader.target in RELU_CALLS
        return False


def input_of(node: fx.Node) -> Any:
    """The tensor a call works on."""
    return node.args[0] if node.args else node.kwargs.get("input")


def same_input(
    nodes: Mapping[str, fx.Node], kinds: tuple[type[nn.Module], ...], walk: Walk
) -> tuple[tuple[str, ...], ...]:
    """Sets of layers of ``kinds`` that read the very same tensor (query, key and value)."""
    readers: dict[Any, list[str]] = {}
    for name, node in nodes.items():
        if isinstance(walk.module(node), kinds):
            readers.setdefault(input_of(node), []).append(name)
    return tuple(tuple(names) for names in readers.values() if len(names) > 1)


def residual(graph: fx.Graph, walk: Walk) -> tuple[tuple[str, ...], ...]:
    """Sets of layers whose outputs meet in one addition, behind ops that pass them on."""
    found = []
    for node in graph.nodes:
        if node.target not in ADDITIONS:
            continue
        sources = [walk.source(arg) for arg in node.args]
        met = [str(source.target) for source in sources if source and walk.is_layer(source)]
        if len(set(met)) > 1:
            found.append(tuple(dict.fromkeys(met)))
    return tuple(found)
