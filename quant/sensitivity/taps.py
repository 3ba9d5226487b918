"""What happens at each layer: inputs, outputs, loss gradients, and the local effect of a choice.

A local effect ``dy`` is the change of a layer's output when the layer takes a choice on its float
input; running one layer costs a fraction of a pass, so all layers under one choice cost one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from quant.errors import UsageError
from quant.model import LayerChoice, QuantizedModel
from quant.sensitivity.base import ScoreContext


class Taps:
    """Calls of every layer in one pass.

    Attributes:
        inputs: tensor entering each call of each layer.
        outputs: float output of each call.
        leaves: zeros added to each output; their gradients are the loss's by the output.
    """

    def __init__(self) -> None:
        self.inputs: dict[str, list[Tensor]] = {}
        self.outputs: dict[str, list[Tensor]] = {}
        self.leaves: dict[str, list[Tensor]] = {}

    def record(self, name: str, differentiable: bool) -> Callable[..., Tensor | None]:
        """A forward hook for the layer of that name."""

        def hook(_: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor | None:
            entering = args[0] if args else kwargs["input"]
            self.inputs.setdefault(name, []).append(entering.detach())
            self.outputs.setdefault(name, []).append(output.detach())
            if not differentiable:
                return None
            leaf = torch.zeros_like(output).requires_grad_()
            self.leaves.setdefault(name, []).append(leaf)
            return output + leaf

        return hook


@contextmanager
def tapped(model: QuantizedModel, layers: Sequence[str], *, gradients: bool) -> Iterator[Taps]:
    """Records the calls of ``layers`` while inside; the model computes in float."""
    taps = Taps()
    model.float_()
    hooks = [
        model.module.get_submodule(name).register_forward_hook(
            taps.record(name, gradients), with_kwargs=True
        )
        for name in layers
    ]
    try:
        yield taps
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def local_effect(
    model: QuantizedModel, taps: Taps, layer: str, choice: LayerChoice
) -> list[Tensor]:
    """``dy`` of each recorded call of a layer under a choice."""
    model.apply({layer: choice})
    module = model.module.get_submodule(layer)
    calls = zip(taps.inputs.get(layer, []), taps.outputs.get(layer, []), strict=True)
    found = [module(x) - y for x, y in calls]
    model.float_()
    return found


def output_gradients(losses: Tensor, taps: Taps, *, keep: bool = False) -> dict[str, list[Tensor]]:
    """Gradient of each sample's loss by every recorded output.

    Args:
        losses: ``[n]``; samples must not mix inside the model.
        taps: of the pass that computed the losses.
        keep: whether another gradient of the same pass will be asked for.

    Raises:
        UsageError: an op on the way has no gradient.
    """
    flat = [leaf for leaves in taps.leaves.values() for leaf in leaves]
    try:
        grads = torch.autograd.grad(losses.sum(), flat, retain_graph=keep, allow_unused=True)
    except RuntimeError as cause:
        raise UsageError(
            f"the model cannot be differentiated: {str(cause).splitlines()[0]}",
            fix="use a score without gradients, for example kl or sqnr",
        ) from cause
    found = iter(
        torch.zeros_like(leaf) if grad is None else grad
        for leaf, grad in zip(flat, grads, strict=True)
    )
    return {name: [next(found) for _ in leaves] for name, leaves in taps.leaves.items()}


def per_sample(tensor: Tensor, n: int) -> Tensor:
    """``[n, elements]`` of a tensor whose leading axis holds the samples, folded or not."""
    return tensor.reshape(n, -1).double()


def labelled_batches(ctx: ScoreContext, kind: str) -> list[tuple[Tensor, Tensor]]:
    """Inputs and labels in batches.

    Raises:
        UsageError: no labels, or not one for every input.
    """
    if ctx.labels is None:
        raise UsageError(
            f"score '{kind}' needs labels",
            expected="labels of the calibration data",
            fix="use a score without labels, for example kl or sqnr",
        )
    if not len(ctx.inputs) or len(ctx.inputs) != len(ctx.labels):
        raise UsageError(
            f"{len(ctx.inputs)} inputs and {len(ctx.labels)} labels to score on",
            expected="the same number of both, at least one",
        )
    size = ctx.batch_size
    return list(zip(torch.split(ctx.inputs, size), torch.split(ctx.labels, size), strict=True))
