"""Cross-layer equalization: two layers around a ReLU share their ranges out evenly.

``relu(s x) = s relu(x)`` for ``s > 0``, so a channel may be divided by ``s`` in the first layer
and multiplied in the second. ``s = sqrt(r1 / r2)``, with ``r`` the largest magnitudes of the
channel's weights, makes both ranges ``sqrt(r1 r2)`` (Nagel et al., arXiv 1906.04721; Meller et
al., arXiv 1902.01917). Needs no data.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from quant.folding import NormTracer
from quant.slices import CONVS

_SWEEPS = 20
_HOMOGENEOUS = (torch.relu, F.relu, torch.relu_, "relu", "relu_")


def equalize(model: nn.Module) -> list[tuple[str, str]]:
    """Equalizes every pair of layers of ``model`` in place; returns the pairs.

    The tensors of the pairs are replaced, never written to. Without a traceable graph, or
    without pairs, nothing changes. Convolutions with groups take no part.
    """
    try:
        graph = NormTracer().trace(model)
    except Exception:  # tracing runs user code, which may raise anything
        return []
    pairs = _pairs(model, graph)
    for _ in range(_SWEEPS):
        for first, second in pairs:
            _balance(model.get_submodule(first), model.get_submodule(second))
    return pairs


def _pairs(model: nn.Module, graph: fx.Graph) -> list[tuple[str, str]]:
    """Layers that feed one other layer through ReLUs and identities alone."""
    targets = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    pairs = []
    for node in graph.nodes:
        follower = _follower(model, node)
        if follower and max(targets.count(str(n.target)) for n in (node, follower)) == 1:
            first, second = (model.get_submodule(str(n.target)) for n in (node, follower))
            if isinstance(first, nn.Linear) == isinstance(second, nn.Linear):
                pairs.append((str(node.target), str(follower.target)))
    return pairs


def _follower(model: nn.Module, node: fx.Node) -> fx.Node | None:
    """The only layer that reads ``node``'s output through channel-wise homogeneous functions."""
    if not _is_dense(model, node):
        return None
    following = node
    while len(following.users) == 1:
        following = next(iter(following.users))
        if _is_dense(model, following):
            return following
        if not _is_homogeneous(model, following):
            return None
    return None


def _is_dense(model: nn.Module, node: fx.Node) -> bool:
    if node.op != "call_module":
        return False
    module = model.get_submodule(str(node.target))
    dense = isinstance(module, CONVS) and module.groups == 1
    return dense or isinstance(module, nn.Linear)


def _is_homogeneous(model: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(model.get_submodule(str(node.target)), (nn.ReLU, nn.Identity))
    return node.op in ("call_function", "call_method") and node.target in _HOMOGENEOUS


@torch.no_grad()
def _balance(first: nn.Module, second: nn.Module) -> None:
    assert isinstance(first, (*CONVS, nn.Linear))
    assert isinstance(second, (*CONVS, nn.Linear))
    out_range = first.weight.abs().flatten(1).amax(1)
    in_range = second.weight.abs().transpose(0, 1).flatten(1).amax(1)
    usable = (out_range > 0) & (in_range > 0)
    divisor = torch.where(usable, (out_range / in_range).sqrt(), torch.ones_like(out_range))
    sides = [1] * (first.weight.dim() - 1)
    _replace(first, "weight", first.weight / divisor.reshape(-1, *sides))
    if first.bias is not None:
        _replace(first, "bias", first.bias / divisor)
    _replace(second, "weight", second.weight * divisor.reshape(1, -1, *sides[1:]))


def _replace(module: nn.Module, name: str, value: Tensor) -> None:
    trainable = getattr(module, name).requires_grad
    setattr(module, name, nn.Parameter(value, requires_grad=trainable))
