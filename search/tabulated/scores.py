"""The scores of a table, as they are or with its calibration samples drawn again.

Most strategies are deterministic once they have their scores; what varies from one study to the
next is the calibration data. A seed therefore draws the samples again with replacement, and
moves scores of which only a standard error is known by a normal draw of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from quant.errors import DataError
from quant.sensitivity.base import Score, ScoreTable
from quant.sensitivity.clado import Clado, PairTable
from quant.sensitivity.eigenvalue import TopEigenvalue
from quant.sensitivity.hutchinson import Hutchinson
from quant.sensitivity.sqnr import NoiseToSignal
from quant.sensitivity.superposition import Superposition
from search.tabulated.table import Table

Floats = npt.NDArray[np.float64]
STORED: Mapping[str, Score] = {
    "sqnr": NoiseToSignal(),
    "hutchinson": Hutchinson(max_probes=8),
    "eigenvalue": TopEigenvalue(max_steps=20),
    "clado": Clado(),
}
"""Scores written into tables; all others follow from the logit shifts."""
FROM_SHIFTS = ("lss", "kl", "ce")


def has_score(table: Table, kind: str) -> bool:
    """Whether the table can answer for a score."""
    return "shifts" in table.arrays if kind in FROM_SHIFTS else f"score.{kind}" in table.arrays


def score(table: Table, kind: str, rng: np.random.Generator | None) -> ScoreTable:
    """One score of a table.

    Args:
        table: the tabulated space.
        kind: of the score.
        rng: draws the calibration samples again; None takes them as they are.

    Raises:
        DataError: the table does not hold what the score needs.
    """
    if not has_score(table, kind):
        raise DataError(
            f"table '{table.name}' holds no score '{kind}'",
            fix=f"add the array score.{kind}, or leave out strategies that need it",
        )
    if kind in FROM_SHIFTS:
        return _from_shifts(table, kind, rng)
    value = np.asarray(table.arrays[f"score.{kind}"], dtype=np.float64)
    error = np.asarray(table.arrays.get(f"score.{kind}.error", value * 0), dtype=np.float64)
    if rng is not None:
        value = np.maximum(value + error * rng.standard_normal(value.shape), 0.0)
    form = table.arrays.get(f"score.{kind}.form")
    return ScoreTable(
        kind,
        value,
        error,
        0.0,
        work(table, kind),
        surrogate=None if form is None else PairTable(table.float_ce, form.astype(np.float64)),
        curvature=table.arrays.get(f"score.{kind}.curvature"),
    )


def work(table: Table, kind: str) -> float:
    """Evaluation-equivalents a score took; the single-layer scores share those of ``lss``."""
    name = f"work.{'lss' if kind in FROM_SHIFTS else kind}"
    return float(table.arrays.get(name, 0.0))


def _from_shifts(table: Table, kind: str, rng: np.random.Generator | None) -> ScoreTable:
    base, shifts, labels = (
        np.asarray(table.arrays[name]) for name in ("base", "shifts", "labels")
    )
    if rng is not None:
        drawn = rng.integers(0, len(base), len(base))
        base, shifts, labels = base[drawn], shifts[:, :, drawn], labels[drawn]
    surrogate = Superposition(base, shifts.astype(np.float32), labels)
    each = _single(base, shifts, labels, "ce" if kind == "ce" else "kl")
    value = each.mean(axis=2)
    error = each.std(axis=2, ddof=1) / np.sqrt(len(base))
    model = surrogate if kind == "lss" else None
    return ScoreTable(kind, value, error, 0.0, work(table, kind), surrogate=model)


def _single(base: Floats, shifts: Floats, labels: Floats, kind: str) -> Floats:
    """Effect of one group alone on every sample, ``float64[groups, choices, n]``."""
    float_ = _logprobs(base.astype(np.float64))
    found = _logprobs(base + shifts.astype(np.float64))
    if kind == "kl":
        kl: Floats = (np.exp(float_) * (float_ - found)).sum(axis=-1)
        return np.maximum(kl, 0.0)
    rows = np.arange(len(base))
    change: Floats = float_[rows, labels] - found[..., rows, labels]
    return change


def _logprobs(logits: Floats) -> Floats:
    top = logits.max(axis=-1, keepdims=True)
    result: Floats = logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
    return result
