"""Which weights share a scale: every weight tensor as ``[slices, elements]``.

One view serves all layer types. Output channels come first, then everything that feeds one
output channel, flattened: ``[out, in/groups * kernel]``. Granularity (Shen et al., Q-BERT,
arXiv 1909.05840) then decides the slices: the whole tensor, ``N`` consecutive channels, one
channel, or ``N`` consecutive inputs of one channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from quant.formats import Granularity

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
QUANTIZABLE = (*CONVS, *TRANSPOSED, nn.Linear)


@dataclass(frozen=True)
class SliceLayout:
    """The sliced view of one weight tensor in one granularity.

    Attributes:
        shape: shape of the weight: ``[out, in/groups, *kernel]``, for transposed convolutions
            ``[in, out/groups, *kernel]``, for linear layers ``[out, in]``.
        granularity: what shares one scale.
        group_size: weights per slice when ``granularity`` is GROUP, channels when it is ROWS.
        transposed: true for transposed convolutions.
        groups: convolution groups; changes the view of transposed convolutions only.
    """

    shape: tuple[int, ...]
    granularity: Granularity
    group_size: int = 0
    transposed: bool = False
    groups: int = 1

    @staticmethod
    def of(
        module: nn.Module, granularity: Granularity = Granularity.CHANNEL, group_size: int = 0
    ) -> SliceLayout:
        """Layout of the weight of a module of one of the :data:`QUANTIZABLE` types."""
        assert isinstance(module, QUANTIZABLE)
        transposed = isinstance(module, TRANSPOSED)
        groups = module.groups if isinstance(module, TRANSPOSED) else 1
        return SliceLayout(tuple(module.weight.shape), granularity, group_size, transposed, groups)

    def by_channel(self) -> SliceLayout:
        """The same weight with one slice per output channel."""
        return replace(self, granularity=Granularity.CHANNEL, group_size=0)

    @property
    def channels(self) -> int:
        """Number of output channels or features."""
        return self.shape[1] * self.groups if self.transposed else self.shape[0]

    @property
    def inputs(self) -> int:
        """Number of weights of one output channel."""
        return math.prod(self.shape) // self.channels if self.channels else 0

    @property
    def width(self) -> int:
        """Elements per slice."""
        if self.granularity is Granularity.TENSOR:
            return math.prod(self.shape)
        if self.granularity is Granularity.CHANNEL:
            return self.inputs
        if self.granularity is Granularity.ROWS:
            return self.inputs * self.rows
        return min(self.group_size, self.inputs)

    @property
    def rows(self) -> int:
        """Output channels per slice with granularity ROWS."""
        return min(self.group_size, self.channels)

    @property
    def bands(self) -> int:
        """Slices of the whole weight with granularity ROWS."""
        return -(-self.channels // self.rows) if self.rows else 0

    @property
    def per_channel(self) -> int:
        """Slices per output channel (1 for tensor granularity as well)."""
        if self.granularity is not Granularity.GROUP or not self.width:
            return 1
        return -(-self.inputs // self.width)

    @property
    def tail(self) -> int:
        """Real elements in the last slice of each channel; the rest of it is zero padding.

        With granularity ROWS, those in the last slice of all.
        """
        if self.granularity is Granularity.ROWS and self.width:
            return self.inputs * (self.channels - (self.channels - 1) // self.rows * self.rows)
        if self.granularity is not Granularity.GROUP or not self.width:
            return self.width
        return self.inputs - (self.per_channel - 1) * self.width

    def slice(self, weight: Tensor) -> Tensor:
        """``[slices, elements]`` view or copy of a weight of this shape.

        With group granularity the last slice of a channel is padded with zeros, which every
        format represents exactly, when the group size does not divide the channel.
        """
        rows = self._channels_first(weight)
        if self.granularity is Granularity.TENSOR:
            return rows.reshape(1, -1)
        if self.granularity is Granularity.CHANNEL:
            return rows
        if self.granularity is Granularity.ROWS:
            missing = -self.channels % max(self.rows, 1)
            padded = torch.nn.functional.pad(rows, (0, 0, 0, missing)) if missing else rows
            return padded.reshape(self.bands, self.width)
        padding = self.per_channel * self.width - self.inputs
        padded = torch.nn.functional.pad(rows, (0, padding)) if padding else rows
        return padded.reshape(self.channels * self.per_channel, self.width)

    def unslice(self, slices: Tensor) -> Tensor:
        """The inverse of :meth:`slice`: a tensor of the weight's shape, padding dropped."""
        if self.granularity is Granularity.GROUP:
            slices = slices.reshape(self.channels, self.per_channel * self.width)
            slices = slices[:, : self.inputs]
        if self.granularity is Granularity.ROWS:
            slices = slices.reshape(self.bands * self.rows, self.inputs)[: self.channels]
        if not self.transposed:
            return slices.reshape(self.shape)
        incoming, outgoing = self.shape[0] // self.groups, self.shape[1]
        blocks = slices.reshape(self.groups, outgoing, incoming, *self.shape[2:])
        return blocks.transpose(1, 2).reshape(self.shape)

    def _channels_first(self, weight: Tensor) -> Tensor:
        """``[out, in/groups * kernel]``."""
        if not self.transposed:
            return weight.reshape(self.channels, self.inputs)
        incoming, outgoing = self.shape[0] // self.groups, self.shape[1]
        blocks = weight.reshape(self.groups, incoming, outgoing, *self.shape[2:])
        return blocks.transpose(1, 2).reshape(self.channels, self.inputs)
