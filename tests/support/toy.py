"""A space, costs and a judge made of arithmetic, for tests of the search loop."""

import hashlib

import numpy as np
import torch
from torch import nn

from quant.method import Method
from quant.model import QuantizedModel
from search.records import Result
from search.strategies.base import Trainable
from spaces.choices import parse_choice
from spaces.layers import LayerSpec
from spaces.space import Group, SearchSpace

BITS = (2, 3, 4, 5, 6, 8)


def toy_layer(index, name=None):
    return LayerSpec(
        name=name or f"layer{index}",
        op="linear",
        index=index,
        weight_shape=(8, 4 + index),
        input_shape=(1, 4 + index),
        output_shape=(1, 8),
        stride=(),
        padding=(),
        dilation=(),
        groups=1,
        bias=True,
        params=8 * (4 + index) + 8,
        macs=8 * (4 + index),
        producers=("@input",) if index == 0 else (f"layer{index - 1}",),
    )


def toy_space(groups=4, choices=3):
    """Linear layers, one a group, with weight widths 2, 3, 4, ... and int8 activations."""
    layers = tuple(toy_layer(i) for i in range(groups))
    offered = tuple(parse_choice(f"int{bits}src/int8ut") for bits in BITS[:choices])
    extra = (parse_choice("float32/float32"),)
    members = tuple(Group(layer.name, (layer.name,), offered, extra) for layer in layers)
    return SearchSpace("toy", layers, members)


class ToyCosts:
    """Size is bits times weights, latency is size with a seeded ripple."""

    metrics = ("size_bytes", "latency_ms")

    def __init__(self, space):
        self.space = space
        width = max(len(group.all_choices) for group in space.groups)
        size = np.full((len(space.groups), width), np.nan)
        for g, group in enumerate(space.groups):
            for c, choice in enumerate(group.all_choices):
                weights = sum(space.layer_named[n].weight_count for n in group.layers)
                size[g, c] = choice.weight.bits * weights / 8
        ripple = np.random.default_rng(7).uniform(0.8, 1.2, size.shape)
        self._tables = {"size_bytes": size, "latency_ms": size * ripple / 1e3}

    def table(self, metric):
        return self._tables[metric]

    def costs(self, codes):
        rows = np.arange(len(self.space.groups))
        return {name: table[rows, codes].sum(axis=1) for name, table in self._tables.items()}

    def provenance(self):
        return {name: {"provenance": "computed", "detail": "toy"} for name in self.metrics}


class ToyJudge:
    """Loss falls with bits, with a small interaction of neighbours; counts its calls."""

    def __init__(self, space, seed=0):
        self.space = space
        self.calls = 0
        self._weight = np.random.default_rng(seed).lognormal(0, 1, len(space.groups))

    def loss(self, codes):
        bits = np.array(
            [g.all_choices[c].weight.bits for g, c in zip(self.space.groups, codes, strict=True)]
        )
        harm = self._weight * 4.0 ** -np.minimum(bits, 16)
        return float(harm.sum() + 2 * np.sqrt(harm[1:] * harm[:-1]).sum())

    def key(self, policy, split="search"):
        return hashlib.sha256(f"{split}{policy.canonical}".encode()).hexdigest()[:24]

    def evaluate(self, policies, split="search"):
        results = []
        for policy in policies:
            self.calls += 1
            loss = self.loss(self.space.codes(policy))
            accuracy = float(np.exp(-loss))
            results.append(
                Result(self.key(policy, split), policy.policy_id, loss, loss, accuracy, 100, 0.01)
            )
        return results


class ToyNet(nn.Module):
    """A model with the toy space's layers: their outputs are added up."""

    def __init__(self, groups):
        super().__init__()
        for index in range(groups):
            self.add_module(f"layer{index}", nn.Linear(4 + index, 8))
        self.groups = groups

    def forward(self, x):
        return sum(getattr(self, f"layer{i}")(x[:, : 4 + i]) for i in range(self.groups))


def toy_trainable(space):
    """Gives the toy model of a space, calibrated on random inputs."""

    def give():
        groups = len(space.groups)
        torch.manual_seed(0)
        net, inputs = ToyNet(groups).eval(), torch.randn(40, 4 + groups)
        with torch.no_grad():
            labels = net(inputs).argmax(1)
        names = [f"layer{index}" for index in range(groups)]
        return Trainable(QuantizedModel(net, names, Method(), [inputs]), inputs, labels, 100)

    return give
