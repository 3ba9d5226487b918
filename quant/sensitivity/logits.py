"""Log-probabilities of numpy logits, without overflow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def logsumexp(logits: npt.NDArray[Any]) -> Floats:
    """``log sum exp`` over the last axis, kept with size 1; float64."""
    highest = logits.max(axis=-1, keepdims=True).astype(np.float64)
    total: Floats = highest + np.log(np.exp(logits - highest).sum(axis=-1, keepdims=True))
    return total


def log_softmax(logits: npt.NDArray[Any]) -> Floats:
    """Log-probabilities over the last axis; float64."""
    found: Floats = logits - logsumexp(logits)
    return found
