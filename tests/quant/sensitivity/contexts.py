"""Score contexts over small networks."""

from dataclasses import dataclass

import torch

from quant.formats import Format, parse_format
from quant.method import Method
from quant.model import QuantizedModel
from quant.sensitivity.base import ScoreContext


@dataclass(frozen=True)
class Take:
    weight: Format
    activation: Format
    method: str = ""


def take(weight="float32", activation="float32", method=""):
    return Take(parse_format(weight), parse_format(activation), method)


CHOICES = (take("int2src"), take("int4src", "int4ut"), take("int8src", "int8ut"), take())


def context(model, x, labels, groups, choices=CHOICES, batch_size=4, seed=0):
    names = [name for group in groups for name in group]
    quantized = QuantizedModel(model, names, Method(), [x])
    generator = torch.Generator().manual_seed(seed)
    groups = tuple(tuple(group) for group in groups)
    return ScoreContext(
        quantized, groups, (tuple(choices),) * len(groups), x, labels, batch_size, generator
    )
