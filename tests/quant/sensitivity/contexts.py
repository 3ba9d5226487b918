"""Score contexts over small networks."""

import torch

from quant.method import Method
from quant.model import QuantizedModel
from quant.sensitivity.base import ScoreContext
from tests.quant.models import take

CHOICES = (take("int2src"), take("int4src", "int4ut"), take("int8src", "int8ut"), take())


def context(model, x, labels, groups, choices=CHOICES, batch_size=4, seed=0):
    names = [name for group in groups for name in group]
    quantized = QuantizedModel(model, names, Method(), [x])
    generator = torch.Generator().manual_seed(seed)
    groups = tuple(tuple(group) for group in groups)
    return ScoreContext(
        quantized, groups, (tuple(choices),) * len(groups), x, labels, batch_size, generator
    )
