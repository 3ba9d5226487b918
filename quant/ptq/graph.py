"""What repairs of the float model read off the traced graph."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from quant.folding import NormTracer
from quant.slices import CONVS

RELUS = (torch.relu, F.relu, torch.relu_, "relu", "relu_")


def traced(model: nn.Module) -> fx.Graph | None:
    """The graph with layers and norms whole, or None where the model cannot be traced."""
    try:
        return NormTracer().trace(model)
    except Exception:  # tracing runs user code, which may raise anything
        return None


def is_dense(model: nn.Module, node: fx.Node) -> bool:
    """True for calls of linear layers and of convolutions without groups."""
    if node.op != "call_module":
        return False
    module = model.get_submodule(str(node.target))
    dense = isinstance(module, CONVS) and module.groups == 1
    return dense or isinstance(module, nn.Linear)


def is_relu(model: nn.Module, node: fx.Node) -> bool:
    """True for ReLU as a module, function or method."""
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), nn.ReLU)
    return node.op in ("call_function", "call_method") and node.target in RELUS


def is_identity(model: nn.Module, node: fx.Node) -> bool:
    """True for calls of ``nn.Identity``, such as norms that were folded."""
    if node.op != "call_module":
        return False
    return isinstance(model.get_submodule(str(node.target)), nn.Identity)


def readers(model: nn.Module, node: fx.Node) -> list[fx.Node] | None:
    """All layers that read ``node`` through ReLUs and identities alone.

    None when something else reads it too: a scale could not be moved past that.
    """
    found: list[fx.Node] = []
    for user in node.users:
        if is_dense(model, user):
            found.append(user)
        elif is_relu(model, user) or is_identity(model, user):
            deeper = readers(model, user)
            if deeper is None:
                return None
            found += deeper
        else:
            return None
    return found


def calls(graph: fx.Graph, node: fx.Node) -> int:
    """How often the module of ``node`` is called."""
    return sum(n.op == "call_module" and n.target == node.target for n in graph.nodes)


def replace_tensor(module: nn.Module, name: str, value: Tensor) -> None:
    """Puts a new parameter in the place of one, which is never written to."""
    old = getattr(module, name)
    trainable = True if old is None else old.requires_grad
    setattr(module, name, nn.Parameter(value, requires_grad=trainable))
