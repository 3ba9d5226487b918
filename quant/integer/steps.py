"""Integer operators of a converted model, each a module with integer buffers only.

Tensors between layers are *streams*: int64 codes in steps of a power of two, about 22 bits for
the largest calibrated value. Layers round a stream to their own input grid, multiply and
accumulate in int32, and hand on a stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.integer.dyadic import INT32, Dyadic, dyadic
from quant.integer.functions import (
    AFFINE_BITS,
    EXP_BITS,
    GELU_BITS,
    NORM_BITS,
    igelu,
    ilayer_norm,
    isoftmax,
    mean,
)
from quant.numbers import LayerNumbers

STREAM_BITS = 22
OPERAND_BITS = 12
OPERANDS = 512
"""Operands of products of two activations have 12 bits, sign included: the sum of 512 products
fits an int32."""


def stream_step(largest: float) -> float:
    """Step of a stream whose values reach ``largest`` over the calibration data."""
    return 2.0 ** (math.ceil(math.log2(max(largest, 2.0**-40))) - STREAM_BITS)


class Rescale(nn.Module):
    """Changes the step of a stream."""

    multiplier: Tensor
    shift: Tensor

    def __init__(self, ratio: Tensor | float) -> None:
        super().__init__()
        found = dyadic(ratio)
        self.register_buffer("multiplier", found.multiplier)
        self.register_buffer("shift", found.shift)

    def forward(self, x: Tensor) -> Tensor:
        """Codes in the new step, int64."""
        return Dyadic(self.multiplier, self.shift)(x)


class Layer(nn.Module):
    """A convolution or linear layer.

    Args:
        module: the layer, for its geometry.
        numbers: its codes, bias and input grid.
        step: step of the stream that enters.
        out_step: step of the stream that leaves.

    Attributes:
        enter_ratio: the ratio that ``enter`` stands for, for inspection; likewise
            ``leave_ratio``, float64 per channel. Neither takes part in computing.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self, module: nn.Module, numbers: LayerNumbers, step: float, out_step: float
    ) -> None:
        super().__init__()
        codes, grid = numbers.codes, numbers.input
        assert codes is not None and grid is not None
        centred = codes.layout.slice(codes.values) - codes.zero_point
        weight = codes.layout.unslice(centred)
        scale = codes.by_channel(codes.scale)[:, 0].double()
        if numbers.gain is not None:
            scale = scale * numbers.gain.reshape(-1).double()
        self.zero = int(grid.zero_point)
        self.low, self.high = grid.fmt.qmin - self.zero, grid.fmt.qmax - self.zero
        accumulator = scale * float(grid.scale)
        bias = torch.zeros(len(scale)) if numbers.bias is None else numbers.bias
        self.register_buffer("weight", weight.to(torch.int32))
        self.register_buffer("bias", torch.round(bias.double() / accumulator).long())
        self.enter_ratio = step / float(grid.scale)
        self.enter = Rescale(self.enter_ratio)
        shape = (1, -1) if isinstance(module, nn.Linear) else (1, -1, *[1] * (weight.dim() - 2))
        self.leave_ratio = (accumulator / out_step).reshape(shape)
        self.leave = Rescale(self.leave_ratio)
        self.shape = shape
        self.product = _product(module)

    def codes(self, x: Tensor) -> Tensor:
        """The stream on the layer's input grid, zero point taken off, int32."""
        found: Tensor = self.enter(x)
        return found.clamp(self.low, self.high).to(torch.int32)

    def accumulate(self, codes: Tensor) -> Tensor:
        """``sum w q + b`` in int32, handed on as int64."""
        return self.product(codes, self.weight).long() + self.bias.reshape(self.shape)

    def forward(self, x: Tensor) -> Tensor:
        """A stream to a stream."""
        found: Tensor = self.leave(self.accumulate(self.codes(x)))
        return found

    @property
    def largest(self) -> int:
        """Bound on the magnitude of the accumulator, whatever enters."""
        reach = max(-self.low, self.high)
        sums = self.weight.long().abs().flatten(1).sum(1) * reach + self.bias.abs()
        return int(sums.max())

    @property
    def fits(self) -> bool:
        """Whether the accumulator can never leave int32."""
        return self.largest <= INT32


def _product(module: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    if isinstance(module, nn.Linear):
        return lambda x, weight: x @ weight.T
    convolve: dict[type, Any] = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}
    function = next(found for kind, found in convolve.items() if isinstance(module, kind))
    options = {name: getattr(module, name) for name in ("stride", "padding", "dilation", "groups")}
    return lambda x, weight: function(x, weight, **options)


class Sum(nn.Module):
    """Two streams in one step: the residual addition of HAWQ-V3."""

    def __init__(self, steps: Sequence[float], out_step: float) -> None:
        super().__init__()
        self.first, self.second = (Rescale(step / out_step) for step in steps)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum, in the common step."""
        found: Tensor = self.first(x) + self.second(y)
        return found


class Constant(nn.Module):
    """Adds a constant."""

    value: Tensor

    def __init__(self, value: Tensor, step: float, out_step: float) -> None:
        super().__init__()
        self.register_buffer("value", torch.round(value.double() / out_step).long())
        self.rescale = Rescale(step / out_step)

    def forward(self, x: Tensor) -> Tensor:
        """The sum, in the common step."""
        found: Tensor = self.rescale(x) + self.value
        return found


class Product(nn.Module):
    """A matrix product of two streams, operands of 12 bits."""

    def __init__(self, steps: Sequence[float], largest: Sequence[float], out_step: float) -> None:
        super().__init__()
        fine = [stream_step(size) * 2.0 ** (STREAM_BITS - OPERAND_BITS + 1) for size in largest]
        self.first = Rescale(steps[0] / fine[0])
        self.second = Rescale(steps[1] / fine[1])
        self.leave = Rescale(fine[0] * fine[1] / out_step)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """``x @ y``; operands beyond the calibrated range saturate."""
        end = (1 << OPERAND_BITS - 1) - 1
        kind = torch.int32 if x.shape[-1] <= OPERANDS else torch.int64
        first, second = (
            step(operand).clamp(-end, end).to(kind)
            for step, operand in ((self.first, x), (self.second, y))
        )
        found: Tensor = self.leave(first @ second)
        return found


class Softmax(nn.Module):
    """Softmax over the last axis."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.enter = Rescale(step * 2.0**EXP_BITS)

    def forward(self, x: Tensor) -> Tensor:
        """Shares in steps of 2^-15."""
        return isoftmax(self.enter(x), 2.0**-EXP_BITS)[0]


class Gelu(nn.Module):
    """GELU."""

    def __init__(self, step: float, out_step: float) -> None:
        super().__init__()
        self.enter = Rescale(step * 2.0**GELU_BITS)
        _, found = igelu(torch.zeros(1, dtype=torch.int64), 2.0**-GELU_BITS)
        self.leave = Rescale(found / out_step)

    def forward(self, x: Tensor) -> Tensor:
        """A stream to a stream."""
        found: Tensor = self.leave(igelu(self.enter(x), 2.0**-GELU_BITS)[0])
        return found


class LayerNorm(nn.Module):
    """Layer norm over the last axis, with scale and shift in 12 and 26 fractional bits."""

    weight: Tensor
    bias: Tensor

    def __init__(self, module: nn.LayerNorm, step: float, out_step: float) -> None:
        super().__init__()
        width = module.normalized_shape[-1]
        weight = torch.ones(width) if module.weight is None else module.weight.detach()
        bias = torch.zeros(width) if module.bias is None else module.bias.detach()
        self.step, self.eps = step, module.eps
        self.register_buffer("weight", torch.round(weight.double() * 2**AFFINE_BITS).long())
        self.register_buffer(
            "bias", torch.round(bias.double() * 2 ** (NORM_BITS + AFFINE_BITS)).long()
        )
        self.leave = Rescale(2.0 ** -(NORM_BITS + AFFINE_BITS) / out_step)

    def forward(self, x: Tensor) -> Tensor:
        """A stream to a stream."""
        unit, _ = ilayer_norm(x, self.step, self.eps)
        found: Tensor = self.leave(unit * self.weight + self.bias)
        return found


class Mean(nn.Module):
    """Mean over axes, rounded to the nearest."""

    def __init__(self, dims: tuple[int, ...], *, keep: bool) -> None:
        super().__init__()
        self.dims, self.keep = dims, keep

    def forward(self, x: Tensor) -> Tensor:
        """In the step of ``x``."""
        found = mean(x, self.dims)
        return found if self.keep else found.squeeze(self.dims)


class Patches(nn.Module):
    """``nn.Unfold`` without padding on images, ``[n, c, h, w] -> [n, c k k, positions]``."""

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """Views and one copy; no arithmetic."""
        views = x.unfold(2, self.kernel[0], self.stride[0])
        views = views.unfold(3, self.kernel[1], self.stride[1])
        return views.permute(0, 1, 4, 5, 2, 3).flatten(4).flatten(1, 3)


class MaxPool(nn.Module):
    """``nn.MaxPool2d`` without padding."""

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """In the step of ``x``."""
        views = x.unfold(2, self.kernel[0], self.stride[0])
        return views.unfold(3, self.kernel[1], self.stride[1]).amax((-2, -1))
