"""Small real models and their lowering with true weights, for tests of whole networks."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from hw_profiles.backends.onnxruntime_cpu.lower import Range, Weights
from quant.folding import fold_batch_norm
from spaces.inventory import trace
from tests.hw_profiles.layers import space_of

CHOICES = ("int8sc/int8ut", "float32")


class Block(nn.Module):
    """Convolutions with a residual addition, pooling, attention-like matrix layers, a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.left, self.right = nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 8, 1)
        self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(2)
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        x = self.pool(self.relu(self.left(x) + self.right(x)))
        tokens = x.flatten(2).transpose(1, 2)
        mixed = torch.sigmoid(self.query(tokens)) * self.key(tokens)
        return self.head(mixed.mean(dim=1))


def block(seed=0):
    """The model in eval mode with batch-norm statistics that matter, and one input."""
    torch.manual_seed(seed)
    model = Block()
    with torch.no_grad():
        model.stem[1].running_mean.uniform_(-0.2, 0.2)
        model.stem[1].running_var.uniform_(0.5, 2.0)
    return model.eval(), torch.randn(1, 3, 8, 8)


def block_space(model, example, choices=CHOICES, ties=()):
    """A space over the layers of ``model``."""
    return space_of(trace(model, example).layers, choices, ties=ties)


class TrueParameters:
    """Float weights of a module, 8-bit ones rounded to the nearest, grids from a forward pass."""

    def __init__(self, model, example):
        self.module = fold_batch_norm(model).model
        self.seen = {}
        for name, layer in self.module.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(self._record(name))
        with torch.no_grad():
            self.module(example)

    def _record(self, name):
        def hook(_, inputs, output):
            self.seen[name] = inputs[0], output

        return hook

    def weights(self, layer, kernel):
        module = self.module.get_submodule(layer)
        values = module.weight.detach().numpy()
        bias = None if module.bias is None else module.bias.detach().numpy()
        if kernel.weight.is_float:
            return Weights(values, bias)
        scale = np.abs(values).reshape(len(values), -1).max(1).astype(np.float32) / 127
        shape = (-1,) + (1,) * (values.ndim - 1)
        codes = np.rint(values / scale.reshape(shape)).astype(np.int8)
        return Weights(codes, bias, scale, bits=8)

    def input_grid(self, layer):
        return grid(self.seen[layer][0])

    def output_grid(self, layer):
        output = self.seen[layer][1]
        return grid(output.clamp(min=0) if layer.startswith("stem") else output)

    def rounded_input(self, layer):
        return None


def grid(tensor):
    """Affine uint8 grid over a tensor's range, zero included."""
    low, high = min(float(tensor.min()), 0.0), max(float(tensor.max()), 0.0)
    scale = (high - low) / 255 or 1.0
    return Range(scale, int(np.rint(-low / scale)))
