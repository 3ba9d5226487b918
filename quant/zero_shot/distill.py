"""Distilled data: inputs on which a model's batch norms see what they saw in training.

ZeroQ (Cai et al., arXiv 2001.00281, equation 3): starting from normal noise, gradient descent on
the inputs minimises ``sum_l |mu_l(x) - mu_l|^2 + |sigma_l(x) - sigma_l|^2`` over all norms. No
data is read.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quant.zero_shot.norms import watched

_STEPS = 100
_RATE = 0.1
_BATCH = 50


def distill(
    model: nn.Module,
    shape: tuple[int, ...],
    samples: int,
    generator: torch.Generator,
    *,
    steps: int = _STEPS,
) -> Tensor:
    """Inputs ``[samples, *shape]`` that match the norms' statistics, batch by batch.

    Args:
        model: trained; neither it nor its statistics change.
        shape: of one input.
        samples: how many, at least 1; batches of 50 are matched together.
        generator: source of the noise they start from.
        steps: of Adam on the inputs.

    Raises:
        DataError: the model has no batch norms with running statistics.
    """
    noise = torch.randn(samples, *shape, generator=generator)
    # A last batch of one sample would have no spread in norms over features.
    count = max(1, round(samples / _BATCH))
    with watched(model) as (frozen, gap):
        found = []
        for start in noise.chunk(count):
            x = start.clone().requires_grad_()
            optimizer = torch.optim.Adam([x], lr=_RATE)
            for _ in range(steps):
                with torch.enable_grad():
                    frozen(x)
                    optimizer.zero_grad()
                    gap.value().backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            found.append(x.detach())
    return torch.cat(found)
