"""Batch-norm re-estimation: every channel of a quantized layer gets its mean and spread back.

Running statistics are those of the float network; recomputing them on other data is AdaBN (Li et
al., arXiv 1603.04779), with quantized weights it repairs much at 2 and 3 bits. The norms are
folded, so the same is done to the folded layers: as in a norm in training, each batch is
normalised by its own statistics to the norm's mean and deviation, and the averages of those
statistics serve afterwards. The result is a factor and a shift per channel, which scales per
channel and the bias take in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quant.attach import Attachment, Quantizer
from quant.folding import NormStatistics

_EPSILON = 1e-5


@dataclass(frozen=True)
class ChannelAffine:
    """``gain y + shift`` per channel.

    Attributes:
        gain: broadcastable to the layer's output, likewise ``shift``.
        shift: see ``gain``.
    """

    gain: Tensor
    shift: Tensor

    def __call__(self, y: Tensor) -> Tensor:
        """The output moved back."""
        return y * self.gain + self.shift


class _BatchNorm:
    """Normalises each batch to the target and averages what it saw."""

    def __init__(self, target: NormStatistics, channels_last: bool) -> None:
        self._target, self._last = target, channels_last
        self._sum = torch.zeros_like(target.mean, dtype=torch.float64)
        self._squares, self._count = torch.zeros_like(self._sum), 0

    def __call__(self, y: Tensor) -> Tensor:
        rows = y.movedim(-1 if self._last else 1, 0).flatten(1).double()
        self._sum += rows.sum(1)
        self._squares += rows.square().sum(1)
        self._count += rows.shape[1]
        return self._affine(rows.mean(1), rows.var(1, unbiased=False), y)(y)

    def averaged(self, like: Tensor) -> ChannelAffine:
        mean = self._sum / max(self._count, 1)
        variance = (self._squares / max(self._count, 1) - mean.square()).clamp(min=0)
        return self._affine(mean, variance, like)

    def _affine(self, mean: Tensor, variance: Tensor, like: Tensor) -> ChannelAffine:
        gain = self._target.std.double() / (variance + _EPSILON * self._floor()).sqrt()
        # A channel that quantization made constant has no spread to restore.
        gain = torch.where(variance > 0, gain, torch.ones_like(gain))
        shift = self._target.mean.double() - gain * mean
        shape = [-1] if self._last else [-1, *[1] * (like.dim() - 2)]
        return ChannelAffine(
            gain.to(like.dtype).reshape(shape), shift.to(like.dtype).reshape(shape)
        )

    def _floor(self) -> Tensor:
        return self._target.std.double().square().clamp(min=1e-12)


@torch.no_grad()
def reestimate(
    model: nn.Module,
    attachment: Attachment,
    targets: Mapping[str, NormStatistics],
    batches: Iterable[Tensor],
) -> dict[str, ChannelAffine]:
    """One pass over ``batches`` with the quantizers in place; fills the output slots.

    Args:
        model: the model as quantized.
        attachment: its slots.
        targets: mean and deviation every layer's output shall have, by name; names that are not
            attached are left out.
        batches: model inputs.
    """
    layers = {name: model.get_submodule(name) for name in targets if name in attachment.names}
    norms = {n: _BatchNorm(targets[n], isinstance(m, nn.Linear)) for n, m in layers.items()}
    seen: dict[str, Tensor] = {}

    def normaliser(name: str) -> Quantizer:
        def normalise(y: Tensor) -> Tensor:
            seen[name] = y.new_empty((0,) * y.dim())  # only its axes and type matter later
            return norms[name](y)

        return normalise

    for name in norms:
        attachment.set_output(name, normaliser(name))
    for batch in batches:
        model(batch)
    found = {name: norms[name].averaged(seen[name]) for name in seen}
    for name in norms:
        attachment.set_output(name, found.get(name))
    return found
