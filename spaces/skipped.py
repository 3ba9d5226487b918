"""What stays in float and why: nothing with weights or a matrix product is left out silently."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils import parametrize

from spaces.layers import SkippedOp

OP_OF: dict[type[nn.Module], str] = {
    nn.Conv1d: "conv1d",
    nn.Conv2d: "conv2d",
    nn.Conv3d: "conv3d",
    nn.ConvTranspose1d: "conv_transpose1d",
    nn.ConvTranspose2d: "conv_transpose2d",
    nn.ConvTranspose3d: "conv_transpose3d",
    nn.Linear: "linear",
}
"""Op of each quantizable module type; exact types, because a subclass may compute otherwise."""

_RECURRENT = "recurrent layers are not supported"
_LOOK_UP = "a look-up, not a matrix product"
UNSUPPORTED_MODULES: dict[type[nn.Module], str] = {
    nn.Embedding: _LOOK_UP,
    nn.EmbeddingBag: _LOOK_UP,
    nn.MultiheadAttention: "its weights are packed; use separate linear layers",
    nn.Bilinear: "two inputs",
    nn.RNNBase: _RECURRENT,
    nn.RNNCellBase: _RECURRENT,
}
_ACTIVATIONS = "a product of activations"
_FUNCTION = "called as a function; use the module, so that its weight can be quantized"
PRODUCT_CALLS: dict[object, tuple[str, str]] = {
    **{
        call: (name, _ACTIVATIONS)
        for name in ("matmul", "bmm", "mm", "mv", "addmm", "addbmm", "baddbmm", "einsum")
        for call in (getattr(torch, name), name)
    },
    operator.matmul: ("matmul", _ACTIVATIONS),
    F.scaled_dot_product_attention: ("attention", _ACTIVATIONS),
    **{
        getattr(F, name): (name, _FUNCTION)
        for name in ("linear", "bilinear", "embedding", *OP_OF.values())
    },
}
"""Calls that multiply matrices or look up weights, by fx target."""


def skipped_modules(model: nn.Module, called: Collection[str]) -> Iterator[SkippedOp]:
    """Modules with weights that are no layers of the inventory.

    Args:
        model: the model.
        called: names of the layers the example reached.
    """
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if name in called or name.startswith(inside):
            continue
        reason = _reason(module)
        if reason:
            inside += (f"{name}.",)
            yield SkippedOp(name, _kind(module), reason)


def _reason(module: nn.Module) -> str:
    """Why a module outside the inventory stays in float; empty when it has no weights."""
    for kind, reason in UNSUPPORTED_MODULES.items():
        if isinstance(module, kind):
            return reason
    if type(module) in OP_OF:
        return "not called on the example"
    if not isinstance(module, tuple(OP_OF)):
        return ""
    if parametrize.is_parametrized(module):
        return "its weight is parametrized; remove the parametrization first"
    return "a subclass of a quantizable module, whose forward may differ"


def _kind(module: nn.Module) -> str:
    """Class name as written in the model, also under torch's parametrizations."""
    return type(module).__name__.removeprefix("Parametrized")


def skipped_calls(graph: fx.Graph) -> Iterator[SkippedOp]:
    """Products that are calls in the graph, named by the module they are written in."""
    for node in graph.nodes:
        if node.op in ("call_function", "call_method") and node.target in PRODUCT_CALLS:
            op, reason = PRODUCT_CALLS[node.target]
            stack = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
            yield SkippedOp(".".join([*stack[-1:], node.name]), op, reason)
