"""What batch norms say of the tensors that enter later layers, without data.

A folded norm gives its layer's output as ``N(beta, gamma^2)`` per channel. Behind a ReLU the
mean is that of the clipped normal, ``gamma phi(beta/gamma) + beta Phi(beta/gamma)`` (Nagel et
al., arXiv 1906.04721, section 4.2.1 and appendix C). Sums of branches add means and, taken as
independent, variances; average pooling keeps means.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from quant.folding import NormStatistics
from quant.ptq.graph import is_identity, is_relu, traced
from quant.slices import QUANTIZABLE, SliceLayout

_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_GLOBAL = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


def clipped_normal(known: NormStatistics) -> NormStatistics:
    """Mean and deviation of ``relu(N(mean, std^2))``, elementwise."""
    mean, std = known.mean.double(), known.std.double()
    ratio = mean / std.clamp(min=1e-30)
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    share = 0.5 * (1 + torch.erf(ratio / math.sqrt(2)))
    first = std * density + mean * share
    second = (mean.square() + std.square()) * share + mean * std * density
    constant = std <= 0
    first = torch.where(constant, mean.clamp(min=0), first)
    spread = (second - first.square()).clamp(min=0).sqrt()
    spread = torch.where(constant, torch.zeros_like(spread), spread)
    return NormStatistics(first.to(known.mean), spread.to(known.mean))


def input_means(
    model: nn.Module, layers: list[str], statistics: Mapping[str, NormStatistics]
) -> dict[str, Tensor]:
    """``E[u]`` of the layers that norms tell something about, ``[groups, inputs]`` float64.

    Args:
        model: batch norms folded.
        layers: names of supported layers.
        statistics: of the outputs of folded layers.
    """
    graph = traced(model)
    found = {}
    for node in graph.nodes if graph else []:
        name = str(node.target)
        if node.op != "call_module" or name not in layers:
            continue
        known = _known(model, node.args[0], statistics)
        module = model.get_submodule(name)
        if known is not None and not isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d)):
            found[name] = _per_weight(module, known.mean.double())
    return {name: mean for name, mean in found.items() if mean.numel()}


def _known(
    model: nn.Module, node: object, statistics: Mapping[str, NormStatistics]
) -> NormStatistics | None:
    """Statistics of a node's value per channel, or None where nothing is known."""
    if not isinstance(node, fx.Node):
        return None
    if node.op == "call_module" and str(node.target) in statistics:
        return statistics[str(node.target)]
    if node.target in (operator.add, operator.iadd, torch.add, "add", "add_"):
        parts = [_known(model, part, statistics) for part in node.args[:2]]
        if parts[0] is None or parts[1] is None or len(parts) != 2:
            return None
        spread = (parts[0].std.square() + parts[1].std.square()).sqrt()
        return NormStatistics(parts[0].mean + parts[1].mean, spread)
    source = node.args[0] if node.args else None
    if is_identity(model, node):
        return _known(model, source, statistics)
    if is_relu(model, node):
        known = _known(model, source, statistics)
        return None if known is None else clipped_normal(known)
    if node.op == "call_module":
        return _through_pool(model, model.get_submodule(str(node.target)), source, statistics)
    return None


def _through_pool(
    model: nn.Module, module: nn.Module, source: object, statistics: Mapping[str, NormStatistics]
) -> NormStatistics | None:
    """Means pass average pooling, and flattening where pooling left one place per channel."""
    if isinstance(module, (*_POOLS, *_GLOBAL)):
        return _known(model, source, statistics)
    if isinstance(module, nn.Flatten) and isinstance(source, fx.Node):
        if source.op != "call_module":
            return None
        pool = model.get_submodule(str(source.target))
        if isinstance(pool, _GLOBAL) and pool.output_size in (1, (1, 1), (1, 1, 1)):
            return _known(model, source, statistics)
    return None


def _per_weight(module: nn.Module, mean: Tensor) -> Tensor:
    """Channel means repeated for every weight of an output channel; empty where they misfit."""
    assert isinstance(module, QUANTIZABLE)
    layout = SliceLayout.of(module)
    groups = 1 if isinstance(module, nn.Linear) else module.groups
    per_group = len(mean) // groups
    if len(mean) % groups or not per_group or layout.inputs % per_group:
        return mean.new_zeros(0)
    return mean.reshape(groups, per_group).repeat_interleave(layout.inputs // per_group, dim=1)
