"""Cross-layer equalization: two layers around a ReLU share their ranges out evenly.

``relu(s x) = s relu(x)`` for ``s > 0``, so a channel may be divided by ``s`` in the first layer
and multiplied in the second. ``s = sqrt(r1 / r2)``, with ``r`` the largest magnitudes of the
channel's weights, makes both ranges ``sqrt(r1 r2)`` (Nagel et al., arXiv 1906.04721; Meller et
al., arXiv 1902.01917). Needs no data.

Bias absorption (section 4.1.3 of the former) then moves what is left of large biases onwards:
a channel with mean ``beta`` and deviation ``gamma`` lies above ``c = max(0, beta - 3 gamma)``
almost always, so ``relu(y) = relu(y - c) + c`` but for one value in 740.
"""

from __future__ import annotations

from collections.abc import MutableMapping

import torch
from torch import Tensor, nn

from quant.folding import NormStatistics
from quant.ptq.graph import calls, is_dense, readers, replace_tensor, traced
from quant.slices import CONVS

_SWEEPS = 20
_SIGMAS = 3.0
Statistics = MutableMapping[str, NormStatistics]


def equalize(model: nn.Module, statistics: Statistics | None = None) -> list[tuple[str, str]]:
    """Equalizes every pair of layers of ``model`` in place; returns the pairs.

    The tensors of the pairs are replaced, never written to. Without a traceable graph, or
    without pairs, nothing changes. Convolutions with groups take no part.

    Args:
        model: batch norms folded.
        statistics: of the layers' outputs; those of the pairs are replaced by scaled ones.
    """
    pairs = pairs_of(model)
    for _ in range(_SWEEPS):
        for first, second in pairs:
            divisor = _balance(model.get_submodule(first), model.get_submodule(second))
            if statistics and first in statistics:
                old = statistics[first]
                statistics[first] = NormStatistics(old.mean / divisor, old.std / divisor)
    return pairs


@torch.no_grad()
def absorb_bias(model: nn.Module, statistics: Statistics) -> list[str]:
    """Moves the constant part of activations into the next layer's bias, in place.

    Only into layers without zero padding: a border of zeros would not be moved along. Norm
    statistics of the first layer are replaced by shifted ones.

    Returns:
        Names of the layers whose outputs were lowered.
    """
    lowered = []
    for first, second in pairs_of(model):
        giver, taker = model.get_submodule(first), model.get_submodule(second)
        assert isinstance(giver, (*CONVS, nn.Linear))
        assert isinstance(taker, (*CONVS, nn.Linear))
        if first not in statistics or giver.bias is None or _pads(taker):
            continue
        known = statistics[first]
        constant = (known.mean - _SIGMAS * known.std).clamp(min=0)
        if not bool(constant.any()):
            continue
        moved = taker.weight.flatten(2).sum(2) if taker.weight.dim() > 2 else taker.weight
        bias = torch.zeros(len(moved)) if taker.bias is None else taker.bias
        replace_tensor(giver, "bias", giver.bias - constant)
        replace_tensor(taker, "bias", bias + moved @ constant)
        statistics[first] = NormStatistics(known.mean - constant, known.std)
        lowered.append(first)
    return lowered


def pairs_of(model: nn.Module) -> list[tuple[str, str]]:
    """Layers that feed one other layer of their kind through ReLUs and identities alone."""
    graph = traced(model)
    pairs = []
    for node in graph.nodes if graph else []:
        following = readers(model, node) if is_dense(model, node) else None
        if graph is None or following is None or len(following) != 1:
            continue
        (follower,) = following
        first, second = (model.get_submodule(str(n.target)) for n in (node, follower))
        alike = isinstance(first, nn.Linear) == isinstance(second, nn.Linear)
        if alike and max(calls(graph, node), calls(graph, follower)) == 1:
            pairs.append((str(node.target), str(follower.target)))
    return pairs


def _pads(module: nn.Module) -> bool:
    if not isinstance(module, CONVS) or module.padding_mode != "zeros":
        return False
    return any(side != 0 for side in module._reversed_padding_repeated_twice)


@torch.no_grad()
def _balance(first: nn.Module, second: nn.Module) -> Tensor:
    """Evens the ranges of one pair; returns what the first layer was divided by, ``[out]``."""
    assert isinstance(first, (*CONVS, nn.Linear))
    assert isinstance(second, (*CONVS, nn.Linear))
    out_range = first.weight.abs().flatten(1).amax(1)
    in_range = second.weight.abs().transpose(0, 1).flatten(1).amax(1)
    usable = (out_range > 0) & (in_range > 0)
    divisor = torch.where(usable, (out_range / in_range).sqrt(), torch.ones_like(out_range))
    sides = [1] * (first.weight.dim() - 1)
    replace_tensor(first, "weight", first.weight / divisor.reshape(-1, *sides))
    if first.bias is not None:
        replace_tensor(first, "bias", first.bias / divisor)
    replace_tensor(second, "weight", second.weight * divisor.reshape(1, -1, *sides[1:]))
    return divisor
