"""Integer square root, exponential, softmax, GELU and layer norm (I-BERT, arXiv 2101.01321).

Arguments are int64 codes of a known step; steps are plain numbers fixed before anything runs, so
that all arithmetic on tensors is on integers. Results come with their own step.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EXP = (0.3585, 1.353, 0.344)
"""``exp(p) ~ a (p + b)^2 + c`` for ``-ln 2 < p <= 0`` (eq. 13)."""
ERF = (-0.2888, -1.769)
"""``erf(x) ~ sgn(x) (a (min(|x|, -b) + b)^2 + 1)`` (eq. 8)."""
EXP_BITS = 12
"""Steps of 2^-12 in front of the exponential: its square stays below 2^26."""
SHARE_BITS = 15
GELU_BITS = 10
ERF_SHIFT = 9
NORM_BITS, AFFINE_BITS = 14, 12
_SQRT_ROUNDS = 40


def divided(x: Tensor, by: Tensor | int) -> Tensor:
    """``floor(x / by)`` in integers."""
    return torch.div(x, by, rounding_mode="floor")


def mean(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Mean over ``dims``, rounded to the nearest, the axes kept; int64."""
    count = math.prod(x.shape[dim] for dim in dims)
    return divided(2 * x.sum(dims, keepdim=True) + count, 2 * count)


def isqrt(n: Tensor) -> Tensor:
    """``floor(sqrt(n))`` of int64 ``0 <= n < 2^62`` by Newton's method (algorithm 4)."""
    root = torch.full_like(n, 1 << 31)
    for _ in range(_SQRT_ROUNDS):
        following = (root + divided(n, root.clamp(min=1))) >> 1
        root = torch.where(following < root, following, root)
    return root


def iexp(x: Tensor, step: float) -> tuple[Tensor, float]:
    """``exp(x step)`` of codes ``x <= 0`` (algorithm 2); relative error below .01."""
    a, b, c = EXP
    ln2 = max(math.floor(math.log(2) / step), 1)
    halvings = divided(-x, ln2)
    rest = x + halvings * ln2
    found = (rest + math.floor(b / step)).square() + math.floor(c / (a * step**2))
    return found >> halvings.clamp(max=62), a * step**2


def isoftmax(x: Tensor, step: float) -> tuple[Tensor, float]:
    """Softmax over the last axis in steps of ``2^-15``; every row sums up to 1 from below."""
    shares, _ = iexp(x - x.amax(-1, keepdim=True), step)
    total = shares.sum(-1, keepdim=True).clamp(min=1)
    return divided(shares << SHARE_BITS, total), 2.0**-SHARE_BITS


def igelu(x: Tensor, step: float) -> tuple[Tensor, float]:
    """``x Phi(x)`` (algorithm 1); error at most .018."""
    a, b = ERF
    inner = step / math.sqrt(2)
    limit = math.floor(b / inner)
    unit = math.floor(1 / (a * inner**2))
    # a < 0: the step of the polynomial is negative, and so are its codes.
    erf = torch.sign(x) * ((x.abs().clamp(max=-limit) + limit).square() + unit)
    # Fewer bits of erf, so that the product with x stays an int32.
    return x * (-(erf + unit) >> ERF_SHIFT), -step * a * inner**2 / 2 * 2**ERF_SHIFT


def ilayer_norm(x: Tensor, step: float, eps: float) -> tuple[Tensor, float]:
    """``(x - mean) / std`` over the last axis in steps of ``2^-14``, no scale or shift yet."""
    centred = x - mean(x, (-1,))
    variance = divided(centred.square().sum(-1, keepdim=True), x.shape[-1])
    std = isqrt(variance + max(round(eps / step**2), 0)).clamp(min=1)
    return divided(centred << NORM_BITS, std), 2.0**-NORM_BITS
