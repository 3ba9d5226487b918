"""Layers that compute with shares of choices: one product on the mixed weight and mixed input.

Composite weights (EdMIPS, arXiv 2004.05795): ``W = sum_b p_b W_b`` and ``x = sum_a p_a Q_a(x)``
cost one layer, where mixing outputs would cost one per choice. Weights are the quantized ones of
the model as it is, so only the shares learn; or, with ``trained``, copies of the float weights
that learn too, each choice with steps of its own (LSQ). Trained copies serve the search alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from quant.activations import StaticQuantizer
from quant.affine import QParams, fake_quantize
from quant.attach import Quantizer
from quant.formats import Format, Scheme
from quant.model import QuantizedModel
from quant.qat.lsq import Lsq
from quant.slices import SliceLayout
from spaces.choices import Choice
from spaces.space import SearchSpace

HALVED = 4096
"""Tensors of as many numbers wait for the backward pass in 16 bits."""


@dataclass(frozen=True, eq=False)
class LayerMixture:
    """What one layer mixes.

    Attributes:
        group: its group.
        weights: the weight in every choice, ``[B, *shape]``.
        inputs: every input quantizer; None for float.
        of_choice: position in ``inputs`` of each choice, ``int64[B]``.
        master: the float weight that learns, None where weights are fixed.
        rounders: of the master weight, one per choice.
    """

    group: int
    weights: Tensor
    inputs: tuple[Quantizer | None, ...]
    of_choice: Tensor
    master: nn.Parameter | None = None
    rounders: tuple[Quantizer, ...] = ()

    def weight(self, shares: Tensor) -> Tensor:
        """``sum_b p_b W_b`` for shares ``[B]``."""
        if self.master is not None:
            total = torch.zeros_like(self.master)
            for share, rounder in zip(shares, self.rounders, strict=False):
                total = total + share * rounder(self.master)
            return total
        mixed: Tensor = torch.tensordot(shares[: len(self.weights)], self.weights, dims=1)
        return mixed

    def input(self, shares: Tensor) -> Quantizer | None:
        """``x -> sum_a p_a Q_a(x)``; None where the only input is float."""
        if len(self.inputs) == 1:
            return self.inputs[0]
        sums = torch.zeros(len(self.inputs)).index_add(
            0, self.of_choice, shares[: len(self.of_choice)]
        )

        grids = _static_grids(self.inputs)

        def mixed(x: Tensor) -> Tensor:
            if grids is not None:
                found: Tensor = _Mixed.apply(x, sums, grids)  # type: ignore[no-untyped-call]
                return found
            total = torch.zeros_like(x)
            for share, quantizer in zip(sums, self.inputs, strict=True):
                total = total + share * (x if quantizer is None else quantizer(x))
            return total

        return mixed


class _Mixed(torch.autograd.Function):
    """``sum_a p_a Q_a(x)``, of which autograd keeps ``x`` and the shares alone.

    Rounded inputs are made again on the way back: kept, every format would add a copy.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, shares: Tensor, grids: Sequence[QParams]) -> Tensor:
        ctx.save_for_backward(x, shares)
        ctx.grids = grids
        total = fake_quantize(x, grids[0]).mul_(shares[0])
        for share, grid in zip(shares[1:], grids[1:], strict=True):
            total.add_(fake_quantize(x, grid).mul_(share))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, shares = ctx.saved_tensors
        through, dots = torch.zeros_like(x), []
        for share, grid in zip(shares, ctx.grids, strict=True):
            dots.append(torch.dot(grads[0].flatten(), fake_quantize(x, grid).flatten()))
            scale, zero = float(grid.scale), int(grid.zero_point)
            low, high = (grid.fmt.qmin - zero - 0.5) * scale, (grid.fmt.qmax - zero + 0.5) * scale
            through.add_(((x >= low) & (x <= high)).to(x.dtype).mul_(share))
        return through.mul_(grads[0]), torch.stack(dots), None


def _static_grids(inputs: Sequence[Quantizer | None]) -> tuple[QParams, ...] | None:
    """Grids of static integer inputs, None where one is of another kind."""
    grids = [q.qparams for q in inputs if isinstance(q, StaticQuantizer)]
    whole = len(grids) == len(inputs) and all(grid.fmt.kind == "int" for grid in grids)
    return tuple(grids) if whole else None


def _half(tensor: Tensor) -> Tensor:
    """Activations wait for the way back in 16 bits: shares need no more digits."""
    large = tensor.dtype is torch.float32 and tensor.numel() >= HALVED
    return tensor.to(torch.bfloat16) if large else tensor


def _whole(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype is torch.bfloat16 else tensor


class Mixture:
    """A model whose layers mix their choices.

    Args:
        quantized: calibrated.
        space: groups and choices.
        trained: whether copies of the weights learn.
    """

    def __init__(
        self, quantized: QuantizedModel, space: SearchSpace, *, trained: bool = False
    ) -> None:
        self.quantized = quantized
        self.keep: Callable[[Tensor], Tensor] = _half
        self.layers: Mapping[str, LayerMixture] = {
            name: _layer(quantized, name, index, space, trained=trained)
            for index, group in enumerate(space.groups)
            for name in group.layers
        }

    def parameters(self) -> list[nn.Parameter]:
        """Master weights and the steps of their rounders; empty where weights are fixed."""
        found: list[nn.Parameter] = []
        for layer in self.layers.values():
            if layer.master is not None:
                found.append(layer.master)
                found += [p for r in layer.rounders if isinstance(r, Lsq) for p in r.parameters()]
        return found

    @contextmanager
    def applied(self, shares: Tensor) -> Iterator[QuantizedModel]:
        """Within it the model computes with ``shares[G, B]``, differentiably."""
        try:
            for name, layer in self.layers.items():
                own = shares[layer.group]
                self.quantized.attachment.set(
                    name, weight=layer.weight(own), input=layer.input(own)
                )
            with torch.autograd.graph.saved_tensors_hooks(lambda t: self.keep(t), _whole):
                yield self.quantized
        finally:
            self.quantized.float_()


def _layer(
    quantized: QuantizedModel, name: str, index: int, space: SearchSpace, *, trained: bool
) -> LayerMixture:
    choices = space.groups[index].choices
    weights = torch.stack(
        [quantized.weight(name, choice.weight, choice.method).detach() for choice in choices]
    )
    formats: list[Format] = list(dict.fromkeys(choice.activation for choice in choices))
    places = torch.tensor([formats.index(choice.activation) for choice in choices])
    inputs = tuple(quantized.input_quantizer(name, fmt) for fmt in formats)
    if not trained:
        return LayerMixture(index, weights, inputs, places)
    original = quantized.original(name).detach()
    rounders = tuple(_rounder(quantized, name, choice) for choice in choices)
    master = nn.Parameter(original.clone())
    return LayerMixture(index, weights, inputs, places, master, rounders)


def _rounder(quantized: QuantizedModel, name: str, choice: Choice) -> Quantizer:
    """Learned steps for symmetric integers, the calibrated quantizer for all else."""
    fmt = choice.weight
    if fmt.kind != "int" or fmt.scheme is Scheme.ASYMMETRIC:
        return quantized.weight_quantizer(name, fmt, choice.method)
    module = quantized.module.get_submodule(name)
    layout = SliceLayout.of(module, fmt.granularity, fmt.group_size)
    return Lsq(quantized.original(name), layout, fmt)


def ladder_order(costs: Tensor, sizes: Sequence[int]) -> Tensor:
    """Choices by rising cost, ``int64[G, B]``, padded by repeating the last.

    Args:
        costs: ``float[G, B]``, anything where there is no choice.
        sizes: choices of each group.
    """
    order = torch.zeros(costs.shape, dtype=torch.int64)
    for group, size in enumerate(sizes):
        own = costs[group, :size].argsort(stable=True)
        order[group, :size] = own
        order[group, size:] = own[-1]
    return order
