"""The numbers of a quantized model as files store them: codes, scales, biases, input grids.

What is exported is what was simulated: the weights in the model's slots (repairs included), the
biases with their corrections, and the input grids of calibration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quant.activations import StaticQuantizer
from quant.affine import QParams
from quant.choice import LayerChoice
from quant.errors import UsageError
from quant.formats import Granularity
from quant.model import QuantizedModel
from quant.ptq.reestimate import ChannelAffine
from quant.slices import SliceLayout
from quant.weights import WeightQuantizer

CLOSE = 1e-5


@dataclass(frozen=True)
class Codes:
    """A weight on a uniform grid: ``real = scale * (code - zero_point)`` in every slice.

    Attributes:
        values: int32, in the weight's shape.
        scale: ``[S, 1]``, float32, positive.
        zero_point: ``[S, 1]``, int32.
        layout: how the slices lie in the weight.
    """

    values: Tensor
    scale: Tensor
    zero_point: Tensor
    layout: SliceLayout

    def by_channel(self, shared: Tensor) -> Tensor:
        """``[S, 1]`` numbers of slices as ``[out, blocks]``, one block unless in groups."""
        layout = self.layout
        if layout.granularity is Granularity.GROUP:
            return shared.reshape(layout.channels, layout.per_channel)
        if layout.granularity is Granularity.ROWS:
            return shared.repeat_interleave(layout.rows, 0)[: layout.channels]
        return shared.expand(layout.channels, 1)

    def decode(self) -> Tensor:
        """The weight the codes stand for."""
        steps = self.layout.slice(self.values) - self.zero_point
        return self.layout.unslice(steps.to(self.scale.dtype) * self.scale)


@dataclass(frozen=True)
class LayerNumbers:
    """A layer of a quantized model.

    Attributes:
        choice: its formats.
        weight: as its format rounded it, float32, in the layer's own shape.
        bias: with all corrections, ``[out]``, or None.
        codes: the weight on its grid, None for formats without a uniform one, and where a repair
            of several layers at once left the grid.
        input: grid of the tensor entering, None for float and dynamic inputs.
        gain: factor per output channel that a repair puts behind the layer, broadcastable to
            the weight, or None; ``bias`` holds it already.
    """

    choice: LayerChoice
    weight: Tensor
    bias: Tensor | None
    codes: Codes | None
    input: QParams | None
    gain: Tensor | None = None

    @property
    def computed(self) -> Tensor:
        """The weight the layer computes with, ``gain`` included."""
        return self.weight if self.gain is None else self.weight * self.gain


def layer_numbers(
    quantized: QuantizedModel, choices: Mapping[str, LayerChoice]
) -> dict[str, LayerNumbers]:
    """Numbers of every layer of a model to which ``choices`` were just applied.

    Raises:
        UsageError: a layer's output passes a function that is no factor and shift per channel.
    """
    with torch.no_grad():
        return {name: _numbers(quantized, name, choice) for name, choice in choices.items()}


def _numbers(quantized: QuantizedModel, name: str, choice: LayerChoice) -> LayerNumbers:
    module = quantized.module.get_submodule(name)
    held = quantized.attachment.held(name)
    weight = torch.as_tensor(module.weight).detach()
    bias = _sum(getattr(module, "bias", None), held.shift)
    gain = None
    if held.output is not None:
        if not isinstance(held.output, ChannelAffine):
            raise UsageError(
                f"layer '{name}' hands its output through {type(held.output).__name__}",
                where="export",
                expected="corrections that a factor and a bias per channel can hold",
            )
        factor = held.output.gain.reshape(-1)
        bias = held.output.shift.reshape(-1) + (0.0 if bias is None else factor * bias)
        transposed = bool(getattr(module, "transposed", False))
        gain = factor.reshape((1, -1) if transposed else (-1, 1))
        gain = gain.reshape(*gain.shape, *[1] * (weight.dim() - gain.dim()))
    codes = _codes(quantized, name, choice, module, weight)
    static = held.input.qparams if isinstance(held.input, StaticQuantizer) else None
    return LayerNumbers(choice, weight, bias, codes, static, gain)


def _codes(
    quantized: QuantizedModel, name: str, choice: LayerChoice, module: nn.Module, weight: Tensor
) -> Codes | None:
    fmt = choice.weight
    if fmt.kind != "int" or "split" in choice.method.split("+"):
        return None
    quantizer = quantized.weight_quantizer(name, fmt, choice.method)
    assert isinstance(quantizer, WeightQuantizer)
    layout = SliceLayout.of(module, fmt.granularity, fmt.group_size)
    values, grid = quantizer.codes(weight), quantizer.qparams
    found = Codes(values, grid.scale, grid.zero_point, layout)
    away = float((found.decode() - weight).abs().max())
    return found if away <= CLOSE * float(weight.abs().max()) else None


def _sum(bias: Tensor | None, shift: Tensor | None) -> Tensor | None:
    if bias is None or shift is None:
        found = bias if shift is None else shift.reshape(-1)
        return None if found is None else found.detach()
    return bias.detach() + shift.reshape(-1)
