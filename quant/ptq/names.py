"""The repairs by name, in the order in which they apply, and what channel splitting adds.

Kept apart from their code, so that settings and cost models read it without importing torch.
"""

from __future__ import annotations

MODEL = ("equalize", "absorb_bias", "smooth")
"""Change the float model once, before calibration."""

CODES = ("gptq", "adaround", "adaquant", "hessian", "stochastic")
"""Choose how one layer's weight is rounded; also allowed per layer, ``int4src+gptq``."""

JOINT = ("brecq", "qdrop", "lapq")
"""Look at several layers of a policy at once."""

OUTPUT = ("bias_correction", "analytic_bias", "bn_reestimate")
"""Move the outputs of quantized layers back."""

REPAIRS = (*MODEL, *CODES, *JOINT, *OUTPUT)

PLAIN, SPLIT = "rtn", "split"
PER_LAYER = (*CODES, PLAIN, SPLIT)
"""What may follow ``+`` in a choice, besides a calibrator; splitting changes a layer's size."""

NEEDS_MOMENTS = frozenset(
    {"gptq", "adaround", "adaquant", "hessian", "bias_correction", "brecq", "qdrop"}
)
NEEDS_BATCHES = frozenset({"smooth", "brecq", "qdrop", "lapq", "bn_reestimate"})
NEEDS_NORMS = frozenset({"absorb_bias", "analytic_bias", "bn_reestimate"})

_SPLIT_SHARE = 0.05


def extra_channels(channels: int) -> int:
    """Input channels that splitting adds to ``channels``: 5 %, at least one."""
    return max(1, round(_SPLIT_SHARE * channels))


def splits(op: str, groups: int) -> bool:
    """Whether the inputs of a layer can be duplicated: linear and dense convolutions."""
    return op == "linear" or (op in ("conv1d", "conv2d", "conv3d") and groups == 1)
