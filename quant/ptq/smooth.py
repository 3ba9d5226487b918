"""Migration of outliers from activations to weights, where it costs nothing at run time.

SmoothQuant (Xiao et al., arXiv 2211.10438): input ``j`` of a layer is divided by
``s_j = max|x_j|^a / max|w_j|^(1-a)`` and its weights are multiplied. The division is moved into
what makes the input: the affine part of a layer norm, or a layer before ReLUs. All layers that
read one tensor share ``s``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, fx, nn

from quant.ptq.graph import calls, is_dense, readers, replace_tensor, traced
from quant.slices import CONVS

ALPHA = 0.5


@torch.no_grad()
def smooth(model: nn.Module, batches: Iterable[Tensor], alpha: float = ALPHA) -> list[str]:
    """Smooths ``model`` in place; its outputs stay as they are.

    Args:
        model: batch norms folded; in eval mode.
        batches: model inputs; read once.
        alpha: 0 leaves the weights' ranges even, 1 the activations'.

    Returns:
        Names of the layers whose input was smoothed; none without a traceable graph or data.
    """
    sites = _sites(model)
    names = [name for _, followers in sites for name in followers]
    peaks = _peaks(model, names, batches)
    for maker, followers in sites:
        if any(name not in peaks for name in followers):
            continue  # no data came this way
        layers = [model.get_submodule(name) for name in followers]
        scale = migration(
            torch.stack([peaks[name] for name in followers]).amax(0),
            torch.stack([_columns(layer) for layer in layers]).amax(0),
            alpha,
        )
        _divide(model.get_submodule(maker), scale)
        for layer in layers:
            assert isinstance(layer, (*CONVS, nn.Linear))
            sides = [1] * (layer.weight.dim() - 2)
            replace_tensor(layer, "weight", layer.weight * scale.reshape(1, -1, *sides))
    return [name for name in names if name in peaks]


def migration(activation: Tensor, weight: Tensor, alpha: float) -> Tensor:
    """``s_j`` for largest magnitudes ``[in]``; 1 where either is zero."""
    scale = activation.pow(alpha) / weight.pow(1 - alpha)
    usable = (activation > 0) & (weight > 0) & torch.isfinite(scale) & (scale > 0)
    return torch.where(usable, scale, torch.ones_like(scale))


def _sites(model: nn.Module) -> list[tuple[str, list[str]]]:
    """Makers of tensors that layers alone read, and those layers."""
    graph = traced(model)
    if graph is None:
        return []
    sites = []
    for node in graph.nodes:
        if not (is_dense(model, node) or _is_norm(model, node)) or calls(graph, node) > 1:
            continue
        following = readers(model, node)
        if not following or any(calls(graph, reader) > 1 for reader in following):
            continue
        names = [str(reader.target) for reader in following]
        kinds = {isinstance(model.get_submodule(n), nn.Linear) for n in names}
        linear = _is_norm(model, node) or isinstance(
            model.get_submodule(str(node.target)), nn.Linear
        )
        if kinds == {linear}:
            sites.append((str(node.target), names))
    return sites


def _is_norm(model: nn.Module, node: fx.Node) -> bool:
    """True for layer norms over the last axis with weight and bias."""
    if node.op != "call_module":
        return False
    module = model.get_submodule(str(node.target))
    if not isinstance(module, nn.LayerNorm) or len(module.normalized_shape) != 1:
        return False
    return module.weight is not None and module.bias is not None


def _peaks(
    model: nn.Module, names: Iterable[str], batches: Iterable[Tensor]
) -> Mapping[str, Tensor]:
    """Largest magnitude of every input channel of the named layers, ``[in]``."""
    found: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module, x: Tensor) -> None:
        if not x.numel():
            return
        axis = x.dim() - 1 if isinstance(module, nn.Linear) else x.dim() - _sides(module) - 1
        peak = x.detach().abs().movedim(axis, 0).flatten(1).amax(1)
        found[name] = torch.maximum(found[name], peak) if name in found else peak

    hooks = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda module, args, name=name: record(name, module, args[0])
        )
        for name in names
    ]
    try:
        for batch in batches if hooks else ():
            model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _columns(layer: nn.Module) -> Tensor:
    """Largest magnitude of every input's weights, ``[in]``."""
    assert isinstance(layer, (*CONVS, nn.Linear))
    return layer.weight.abs().transpose(0, 1).flatten(1).amax(1)


def _divide(maker: nn.Module, scale: Tensor) -> None:
    """Divides the channels of what ``maker`` returns."""
    assert isinstance(maker, (*CONVS, nn.Linear, nn.LayerNorm))
    sides = [1] * (maker.weight.dim() - 1)
    replace_tensor(maker, "weight", maker.weight / scale.reshape(-1, *sides))
    if maker.bias is not None:
        replace_tensor(maker, "bias", maker.bias / scale)


def _sides(module: nn.Module) -> int:
    assert isinstance(module, CONVS)
    return len(module.kernel_size)
