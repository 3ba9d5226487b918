"""First and second moments of what each weight is multiplied with, in one pass over the data.

A layer computes ``y = W u`` for many vectors ``u``: its input features, or the patches of a
convolution. Changing the weight by ``D`` changes the mean output by ``D E[u]`` and adds the mean
squared error ``tr(D E[u u^T] D^T)``; repairs need nothing else of the data.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quant.slices import SliceLayout


class InputMoments:
    """Streamed moments of one layer's input vectors.

    Args:
        module: a layer for which :meth:`supports` is true.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.groups = module.groups if isinstance(module, (nn.Conv1d, nn.Conv2d)) else 1
        width = SliceLayout.of(module).inputs
        self._sum = torch.zeros(self.groups, width, dtype=torch.float64)
        self._products = torch.zeros(self.groups, width, width, dtype=torch.float64)
        self.count = 0

    @staticmethod
    def supports(module: nn.Module) -> bool:
        """True for linear layers and for one- and two-dimensional convolutions."""
        return isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Adds a batch of the layer's input."""
        vectors = self._vectors(x.detach()).double()
        self._sum += vectors.sum(1)
        self._products += vectors.transpose(1, 2) @ vectors
        self.count += vectors.shape[1]

    @property
    def mean(self) -> Tensor:
        """``E[u]``, ``[groups, inputs]``, float64; 0 without data."""
        return self._sum / max(self.count, 1)

    @property
    def second(self) -> Tensor:
        """``E[u u^T]``, ``[groups, inputs, inputs]``, float64; 0 without data."""
        return self._products / max(self.count, 1)

    def _vectors(self, x: Tensor) -> Tensor:
        """``[groups, n, inputs]`` in the order of the sliced weight."""
        module = self._module
        if isinstance(module, nn.Linear):
            return x.reshape(1, -1, module.in_features)
        assert isinstance(module, (nn.Conv1d, nn.Conv2d))
        sides = len(module.kernel_size)
        batch = x if x.dim() == sides + 2 else x[None]
        around = module._reversed_padding_repeated_twice
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        batch = F.pad(batch, around, mode=mode)
        kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
        if sides == 1:
            batch = batch[:, :, None]
            kernel, stride, dilation = (1, *kernel), (1, *stride), (1, *dilation)
        patches = F.unfold(batch, kernel, dilation=dilation, stride=stride)
        samples, rows, places = patches.shape
        grouped = patches.reshape(samples, self.groups, rows // self.groups, places)
        return grouped.permute(1, 0, 3, 2).flatten(1, 2)
