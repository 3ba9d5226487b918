"""Batch-norm folding: one affine layer instead of two (Jacob et al., arXiv 1712.05877).

``W' = gamma W / sqrt(var + eps)`` per output channel and
``b' = beta + gamma (b - mean) / sqrt(var + eps)``. Which layer feeds which norm is read from
the traced graph; the model itself keeps its class and its layer names, and a folded norm
becomes ``nn.Identity``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from quant.errors import DataError
from quant.slices import QUANTIZABLE, SliceLayout

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class NormStatistics:
    """Mean and standard deviation of a folded layer's output over its training data.

    A norm shifts every channel to mean ``beta`` and standard deviation ``|gamma|``; that
    knowledge outlives the norm and stands in for data (Nagel et al., arXiv 1906.04721).

    Attributes:
        mean: ``beta``, ``[channels]``.
        std: ``|gamma|``, ``[channels]``.
    """

    mean: Tensor
    std: Tensor


@dataclass(frozen=True)
class Folded:
    """Result of folding.

    Attributes:
        model: a new model in eval mode; tensors that did not change are shared.
        folded: ``{name of the norm: name of the layer that took it in}``.
        left: ``{name of the norm: reason it was left}``.
        statistics: what the norm says of its layer's output, by name of the layer.
    """

    model: nn.Module
    folded: dict[str, str]
    left: dict[str, str]
    statistics: dict[str, NormStatistics] = field(default_factory=dict)


def share_copy(model: nn.Module) -> nn.Module:
    """A copy of the module tree with new parameters and buffers over the model's own memory.

    No number is copied or written, so read-only memory is fine. Gradients stay apart.

    Raises:
        DataError: a lazy parameter has no shape yet.
    """
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise DataError(
                f"parameter '{name}' has no shape yet",
                fix="run the model once on a batch before quantizing it",
            )
    memo: dict[int, Tensor] = {id(tensor): tensor.data for tensor in model.buffers()}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.data, parameter.requires_grad)
    return copy.deepcopy(model, memo)


def fold_batch_norm(model: nn.Module, example: Tensor | None = None) -> Folded:
    """Folds every batch norm that directly follows a convolution or linear layer.

    A norm is left alone, with the reason given, when it follows something else, when the layer
    before it also feeds something else, or when one of the two is used more than once. The
    given model is not changed.

    Args:
        model: the float model.
        example: a model input. A norm behind a linear layer normalises features only where its
            input is ``[n, features]``, which the graph does not tell: it is left without one.
    """
    result = share_copy(model).eval()
    norms = {name: m for name, m in result.named_modules() if isinstance(m, NORMS)}
    if not norms:
        return Folded(result, {}, {})
    try:
        graph = NormTracer().trace(result)
    except Exception as cause:  # tracing runs user code, which may raise anything
        reason = f"the model cannot be traced: {cause}"
        return Folded(result, {}, dict.fromkeys(norms, reason))
    plan, left = _plan(result, norms, graph)
    ranks = {} if example is None else _ranks(result, plan, example)
    for norm, layer in list(plan.items()):
        reason = _misplaced(result.get_submodule(layer), ranks.get(norm))
        if reason:
            left[norm] = reason
            del plan[norm]
    statistics = {layer: _statistics(result, norm) for norm, layer in plan.items()}
    for norm, layer in plan.items():
        _absorb(result, layer, norm)
    return Folded(result, plan, left, statistics)


class NormTracer(fx.Tracer):
    """Keeps layers and norms whole, also when users subclass them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """True for layers and norms as well."""
        known = isinstance(m, (*QUANTIZABLE, *NORMS))
        return known or super().is_leaf_module(m, module_qualified_name)


def _plan(
    model: nn.Module, norms: Mapping[str, nn.Module], graph: fx.Graph
) -> tuple[dict[str, str], dict[str, str]]:
    """Pairs each norm with its layer, or with the reason there is none."""
    calls: dict[nn.Module, int] = {}
    nodes: dict[nn.Module, fx.Node] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            module = model.get_submodule(str(node.target))
            calls[module] = calls.get(module, 0) + 1
            nodes[module] = node
    plan, left = {}, {}
    for name, norm in norms.items():
        if norm not in nodes:
            left[name] = "it is not used in the forward pass"
        elif calls[norm] > 1:
            left[name] = "it is used more than once"
        else:
            source = nodes[norm].args[0] if nodes[norm].args else None
            reason = _obstacle(model, norm, source, calls)
            if reason:
                left[name] = reason
            else:
                assert isinstance(source, fx.Node)
                plan[name] = str(source.target)
    return plan, left


def _obstacle(
    model: nn.Module, norm: nn.Module, source: object, calls: dict[nn.Module, int]
) -> str:
    """Why ``norm`` cannot move into the node before it; empty when it can."""
    if not isinstance(source, fx.Node) or source.op != "call_module":
        return "it does not follow a convolution or linear layer"
    name, layer = str(source.target), model.get_submodule(str(source.target))
    if not isinstance(layer, QUANTIZABLE):
        return f"it follows '{name}', a {type(layer).__name__}"
    if len(source.users) > 1:
        return f"the output of '{name}' is also used elsewhere"
    if calls[layer] > 1:
        return f"layer '{name}' is used more than once"
    if parametrize.is_parametrized(layer):
        return f"layer '{name}' is parametrized"
    if sum(p is layer.weight for m in model.modules() for p in m._parameters.values()) > 1:
        return f"layer '{name}' shares its weight"
    assert isinstance(norm, NORMS)
    if norm.running_mean is None:
        return "it has no running statistics"
    if norm.num_features != SliceLayout.of(layer).channels:
        return f"its {norm.num_features} features are not the output channels of '{name}'"
    return ""


@torch.no_grad()
def _ranks(model: nn.Module, plan: Mapping[str, str], example: Tensor) -> dict[str, int]:
    """Number of axes of what enters each norm behind a linear layer."""
    ranks: dict[str, int] = {}
    asked = [n for n, layer in plan.items() if isinstance(model.get_submodule(layer), nn.Linear)]

    def note(name: str) -> Any:
        return lambda _, args: ranks.__setitem__(name, args[0].dim())

    hooks = [model.get_submodule(name).register_forward_pre_hook(note(name)) for name in asked]
    try:
        if asked:
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return ranks


def _misplaced(layer: nn.Module, rank: int | None) -> str:
    """Why the norm's features are not the layer's outputs; empty when they are."""
    if not isinstance(layer, nn.Linear) or rank == 2:
        return ""
    if rank is None:
        return "whether it normalises features is unknown without an example input"
    return f"it normalises the second of {rank} axes, not the features of a linear layer"


def _statistics(model: nn.Module, norm_name: str) -> NormStatistics:
    norm = model.get_submodule(norm_name)
    assert isinstance(norm, NORMS)
    assert norm.running_mean is not None
    mean, std = torch.zeros_like(norm.running_mean), torch.ones_like(norm.running_mean)
    mean = mean if norm.bias is None else norm.bias.detach()
    return NormStatistics(mean, std if norm.weight is None else norm.weight.detach().abs())


def _absorb(model: nn.Module, layer_name: str, norm_name: str) -> None:
    layer, norm = model.get_submodule(layer_name), model.get_submodule(norm_name)
    assert isinstance(layer, QUANTIZABLE)
    assert isinstance(norm, NORMS)
    weight, bias = _folded_tensors(layer, norm)
    trainable = layer.weight.requires_grad
    layer.weight = nn.Parameter(weight, requires_grad=trainable)
    layer.bias = nn.Parameter(bias, requires_grad=trainable)
    model.set_submodule(norm_name, nn.Identity())


@torch.no_grad()
def _folded_tensors(layer: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of the folded layer, computed in float64."""
    assert isinstance(layer, QUANTIZABLE)
    assert isinstance(norm, NORMS)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight.double()
    bias = torch.zeros_like(factor) if layer.bias is None else layer.bias.double()
    bias = (bias - norm.running_mean.double()) * factor
    if norm.bias is not None:
        bias = bias + norm.bias.double()
    layout = SliceLayout.of(layer)
    weight = layout.unslice(layout.slice(layer.weight.double()) * factor[:, None])
    return weight.to(layer.weight.dtype), bias.to(layer.weight.dtype)
