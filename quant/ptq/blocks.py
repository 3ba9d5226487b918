"""Block reconstruction: rounding learned for the output of a whole block.

BRECQ (Li et al., arXiv 2102.05426): the layers of a block choose together, per weight, whether to
round up or down, for the block's output error weighted by the squared gradient of the loss (the
diagonal of the Fisher information, labels drawn from the float model itself). QDrop (Wei et al.,
arXiv 2203.05740) leaves each activation in float with a chance of one half while learning, which
flattens the loss. The inputs of a block are those of the float model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.attach import Attachment, Filling, Quantizer
from quant.ptq.codes import LayerWeight
from quant.ptq.rounding import rounding_penalty, soft_ups
from quant.weights import WeightQuantizer

_STEPS = 120
_RATE = 0.03
_SOFT = 0.2


class Block(NamedTuple):
    """A module and the layers it holds.

    Attributes:
        name: module path; empty for the whole model.
        layers: names of the layers, in the order given.
    """

    name: str
    layers: tuple[str, ...]


class Sample(NamedTuple):
    """One batch as a block sees it in the float model.

    Attributes:
        args, kwargs: of the block's call.
        output: what it returned.
        weight: of every element's squared error, mean 1.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Target:
    """A block about to be reconstructed.

    Attributes:
        block: its layers.
        filled: what their slots hold without reconstruction.
        weights: for each layer what rounds it, or None where nothing is to be chosen.
    """

    block: Block
    filled: Mapping[str, Filling]
    weights: Mapping[str, LayerWeight | None]


def find_blocks(model: nn.Module, layers: list[str]) -> list[Block]:
    """The smallest modules around layers, such as a residual unit or an attention.

    A module that holds other modules with layers is no block; layers of its own stand alone.
    """
    parents = {name: name.rpartition(".")[0] for name in layers}
    holders = set(parents.values())

    def is_inner(holder: str) -> bool:
        prefix = f"{holder}." if holder else ""
        return not any(o != holder and o.startswith(prefix) for o in holders)

    groups: dict[str, list[str]] = {}
    for name in layers:
        parent = parents[name]
        groups.setdefault(parent if parent and is_inner(parent) else name, []).append(name)
    return [Block(name, tuple(members)) for name, members in groups.items()]


def capture(
    model: nn.Module, block: Block, batches: Iterable[Tensor], generator: torch.Generator
) -> list[Sample]:
    """Inputs, outputs and gradients of a block in the float model, batch by batch.

    Empty when the block is called other than once or returns no tensor.
    """
    module = model.get_submodule(block.name)
    samples: list[Sample] = []
    seen: list[tuple[Any, Any, Tensor]] = []

    def record(_: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            return None
        leaf = output.detach().requires_grad_()
        seen.append((_detached(args), kwargs, leaf))
        return leaf

    hook = module.register_forward_hook(record, with_kwargs=True)
    try:
        for batch in batches:
            seen.clear()
            with torch.enable_grad():
                logits = model(batch)
                if len(seen) != 1:
                    return []
                args, kwargs, leaf = seen[0]
                weight = _importance(logits, leaf, generator)
            samples.append(Sample(args, kwargs, leaf.detach(), weight))
    finally:
        hook.remove()
    return samples


def reconstruct(
    model: nn.Module,
    attachment: Attachment,
    target: Target,
    samples: list[Sample],
    *,
    drop: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Rounded weights of the block's layers; never worse than the given ones on the samples.

    Args:
        model: the model with ``attachment`` in place; slots of other layers are not touched.
        attachment: its slots.
        target: the block.
        samples: from :func:`capture`.
        drop: chance of an activation to stay float while learning (QDrop).
        generator: picks batches and what is dropped.
    """
    chosen = {n: _Soft(job, target.filled[n]) for n, job in target.weights.items() if job}
    if not chosen or not samples:
        return {}
    module = model.get_submodule(target.block.name)

    def error(sample: Sample) -> Tensor:
        output: Tensor = module(*sample.args, **sample.kwargs)
        error: Tensor = (output - sample.output).square() * sample.weight
        return error.mean()

    def total(weights: Mapping[str, Tensor]) -> float:
        _fill(attachment, target, weights, None)
        with torch.no_grad():
            return float(sum(error(sample) for sample in samples)) / len(samples)

    start = {name: soft.start for name, soft in chosen.items()}
    try:
        before = total(start)
        _learn(attachment, target, chosen, samples, error, before, drop, generator)
        learned = {name: soft.hard() for name, soft in chosen.items()}
        return learned if total(learned) < before else start
    finally:
        for name in target.block.layers:
            attachment.set(name)


def _learn(
    attachment: Attachment,
    target: Target,
    chosen: Mapping[str, _Soft],
    samples: list[Sample],
    error: Callable[[Sample], Tensor],
    unit: float,
    drop: float,
    generator: torch.Generator,
) -> None:
    optimizer = torch.optim.Adam([soft.v for soft in chosen.values()], lr=_RATE)
    for step in range(_STEPS):
        pick = int(torch.randint(len(samples), (), generator=generator))
        dropper = _Dropper(drop, generator) if drop else None
        with torch.enable_grad():
            _fill(attachment, target, {n: s.weight() for n, s in chosen.items()}, dropper)
            loss = error(samples[pick]) / max(unit, 1e-30)
            past = (step / _STEPS - _SOFT) / (1 - _SOFT)
            if past > 0:
                loss = loss + sum(rounding_penalty(soft_ups(s.v), past) for s in chosen.values())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


class _Soft:
    """A weight between two levels each, learned from the side it was rounded to."""

    def __init__(self, job: LayerWeight, filling: Filling) -> None:
        quantizer = job.quantizer()
        assert isinstance(quantizer, WeightQuantizer)
        assert isinstance(filling.weight, Tensor)
        self.start = filling.weight
        self._layout, qparams = quantizer.layout, quantizer.qparams
        self._scale, fmt = qparams.scale, qparams.fmt
        steps = self._layout.slice(job.weight.detach()) / self._scale
        self._floor = torch.floor(steps)
        self._low, self._high = fmt.qmin - qparams.zero_point, fmt.qmax - qparams.zero_point
        placed = self._layout.slice(self.start) / self._scale - self._floor
        # Half the fraction, half the side: sides are kept until the block disagrees.
        share = (0.5 * (steps - self._floor) + 0.5 * placed.clamp(0, 1)).clamp(0.05, 0.95)
        self.v = ((share + 0.1) / 1.2).logit().detach().requires_grad_()

    def weight(self) -> Tensor:
        """The weight between levels, differentiable."""
        return self._placed(soft_ups(self.v))

    def hard(self) -> Tensor:
        """The weight on the grid."""
        return self._placed((self.v.detach() > 0).to(self._floor))

    def _placed(self, up: Tensor) -> Tensor:
        steps = torch.minimum(torch.maximum(self._floor + up, self._low), self._high)
        return self._layout.unslice(steps * self._scale)


class _Dropper:
    """Lets activations through in float by chance."""

    def __init__(self, share: float, generator: torch.Generator) -> None:
        self._share, self._generator = share, generator

    def __call__(self, quantizer: Quantizer) -> Quantizer:
        def mixed(x: Tensor) -> Tensor:
            keep = torch.rand(x.shape, generator=self._generator) < self._share
            return torch.where(keep, x, quantizer(x))

        return mixed


def _fill(
    attachment: Attachment,
    target: Target,
    weights: Mapping[str, Tensor],
    dropper: _Dropper | None,
) -> None:
    for name, filling in target.filled.items():
        quantizer = filling.input
        if dropper is not None and quantizer is not None:
            quantizer = dropper(quantizer)
        weight = weights.get(name, filling.weight)
        attachment.set(name, weight=weight, input=quantizer, shift=filling.shift)


def _importance(logits: Any, output: Tensor, generator: torch.Generator) -> Tensor:
    """Squared gradient of the loss at labels the model draws; 1 where there are no logits."""
    ones = torch.ones_like(output)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or not logits.requires_grad:
        return ones
    labels = torch.multinomial(logits.detach().softmax(1), 1, generator=generator)[:, 0]
    loss = F.cross_entropy(logits, labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, output)
    squared: Tensor = gradient.square()
    mean = squared.mean()
    # A little for every element, or what the labels happened not to need would drift.
    return torch.where(mean > 0, 0.1 + 0.9 * squared / mean, ones)


def _detached(args: Any) -> tuple[Any, ...]:
    return tuple(arg.detach() if isinstance(arg, Tensor) else arg for arg in args)
