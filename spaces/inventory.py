"""What a model offers to quantization, read from its traced graph.

torch.fx traces the model and one example runs through it, so every layer's shapes are known. A
model fx cannot trace is run all the same: the inventory is complete but nothing is known about
what lies between layers, so automatic ties (but shared weights) and conversions are missing and
:attr:`TracedModel.warning` says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from quant.errors import DataError
from spaces.graph import Walk, input_of, residual, same_input
from spaces.layers import TRANSPOSED, LayerSpec, SkippedOp
from spaces.skipped import OP_OF, skipped_calls, skipped_modules

CONVOLUTIONS = tuple(kind for kind in OP_OF if kind is not nn.Linear)


@dataclass(frozen=True)
class TracedModel:
    """A model's layers and what the tracing learned about their neighbourhood.

    Attributes:
        layers: in execution order.
        skipped: ops with weights or matrix products that stay in float.
        same_input: sets of linear layers that read the very same tensor.
        same_input_conv: sets of convolutions that read the very same tensor.
        residual: sets of layers whose outputs meet in one addition.
        shared: sets of layers that hold the very same weight tensor.
        warning: what could not be found out, empty when all is known.
    """

    layers: tuple[LayerSpec, ...]
    skipped: tuple[SkippedOp, ...] = ()
    same_input: tuple[tuple[str, ...], ...] = ()
    same_input_conv: tuple[tuple[str, ...], ...] = ()
    residual: tuple[tuple[str, ...], ...] = ()
    shared: tuple[tuple[str, ...], ...] = ()
    warning: str = ""


def trace(model: nn.Module, example_input: Tensor) -> TracedModel:
    """Takes the inventory of ``model``, as it computes in eval mode; the model is not changed.

    Args:
        model: batch norms may be folded or not.
        example_input: one sample, ``[1, ...]``.

    Returns:
        Layers in execution order. A module called several times is one layer whose MACs add up;
        its shapes and neighbours are those of the first call.

    Raises:
        DataError: the example is not one sample, the model cannot run it, or it has no
            quantizable layer.
    """
    if example_input.ndim == 0 or example_input.shape[0] != 1:
        raise DataError(
            f"the example input has shape {list(example_input.shape)}",
            where="task.example_input",
            expected="one sample, [1, ...]",
            fix="pass example_input[:1]",
        )
    with _eval_mode(model):
        calls = _run(model, example_input)
        try:
            graph = _Tracer().trace(model)
        except Exception as cause:  # a model may raise anything when fx runs it on proxies
            traced = _without_graph(model, calls, str(cause).partition("\n")[0])
        else:
            traced = _from_graph(model, graph, calls)
    if not traced.layers:
        raise DataError(
            "the model has no quantizable layer",
            where="task.model",
            expected="Conv1d/2d/3d, ConvTranspose1d/2d/3d or Linear modules",
            fix="; ".join(f"{item.name}: {item.reason}" for item in traced.skipped[:3]),
        )
    return replace(traced, shared=_shared_weights(model, traced.layers))


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Batch norms must not learn from the example."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class _Tracer(fx.Tracer):
    """Keeps subclasses of quantizable modules whole, so that they are reported by name."""

    def is_leaf_module(self, module: nn.Module, module_qualified_name: str) -> bool:
        known = isinstance(module, tuple(OP_OF))
        return known or super().is_leaf_module(module, module_qualified_name)


@dataclass
class _Calls:
    """Shapes of every call of one module."""

    inputs: list[tuple[int, ...]] = field(default_factory=list)
    outputs: list[tuple[int, ...]] = field(default_factory=list)


def _run(model: nn.Module, example_input: Tensor) -> dict[str, _Calls]:
    """Runs the example and records the calls of quantizable modules, in execution order."""
    calls: dict[str, _Calls] = {}
    hooks = [
        module.register_forward_hook(_recorder(calls, name), with_kwargs=True)
        for name, module in model.named_modules()
        if type(module) in OP_OF
    ]
    try:
        with torch.no_grad():
            model(example_input)
    except Exception as cause:  # whatever a user's model raises is news about the model
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
    def record(
        _: nn.Module, args: tuple[Tensor, ...], kwargs: Mapping[str, Tensor], output: Tensor
    ) -> None:
        seen = calls.setdefault(name, _Calls())
        seen.inputs.append(tuple((args[0] if args else kwargs["input"]).shape))
        seen.outputs.append(tuple(output.shape))

    return record


def _without_graph(model: nn.Module, calls: Mapping[str, _Calls], why: str) -> TracedModel:
    layers = tuple(
        replace(_spec(name, model.get_submodule(name), calls[name], index), producers=("@float",))
        for index, name in enumerate(calls)
    )
    warning = (
        f"the model could not be traced ({why}): layers are known, their neighbourhood and "
        "products called as functions are not; tie layers that must agree with space.ties"
    )
    return TracedModel(layers, tuple(skipped_modules(model, calls)), warning=warning)


def _from_graph(model: nn.Module, graph: fx.Graph, calls: Mapping[str, _Calls]) -> TracedModel:
    modules = dict(model.named_modules())
    called: dict[str, fx.Node] = {}
    for node in graph.nodes:
        if node.op == "call_module" and str(node.target) in calls:
            called.setdefault(str(node.target), node)
    nodes = {name: called[name] for name in calls if name in called}
    walk = Walk(modules)
    layers = tuple(
        _in_context(_spec(name, modules[name], calls[name], index), nodes.get(name), walk)
        for index, name in enumerate(calls)
    )
    return TracedModel(
        layers,
        (*skipped_modules(model, calls), *skipped_calls(graph)),
        same_input(nodes, (nn.Linear,), walk),
        same_input(nodes, CONVOLUTIONS, walk),
        residual(graph, walk),
    )


def _in_context(spec: LayerSpec, node: fx.Node | None, walk: Walk) -> LayerSpec:
    """Adds what the graph knows; a layer inside a module fx does not enter has float edges."""
    if node is None:
        return replace(spec, producers=("@float",))
    return replace(
        spec,
        producers=walk.producers(input_of(node)),
        fused_with="relu" if walk.feeds_relu(node) else "",
        input_nonnegative=walk.nonnegative(input_of(node)),
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
    """Multiply-accumulates of one call on one sample.

    A convolution does ``in/groups x kernel`` per output element; a transposed one
    ``out/groups x kernel`` per input element; a linear layer ``in`` per output element. The
    leading axis counts too: attention windows and tokens are often folded into it.
    """
    weight = module.weight
    assert isinstance(weight, Tensor)
    per_element = math.prod(weight.shape[1:])
    elements = math.prod(inputs if op in TRANSPOSED else outputs)
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


def _shared_weights(
    model: nn.Module, layers: tuple[LayerSpec, ...]
) -> tuple[tuple[str, ...], ...]:
    holders: dict[int, list[str]] = {}
    for layer in layers:
        holders.setdefault(id(model.get_submodule(layer.name).weight), []).append(layer.name)
    return tuple(tuple(names) for names in holders.values() if len(names) > 1)
