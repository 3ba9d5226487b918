"""Logit superposition: a whole policy predicted by the sum of single-layer logit shifts.

Quantizing group ``g`` alone by choice ``c`` moves the logits of sample ``n`` by ``Dz[g,c,n]``. A
policy is predicted by ``z + sum_g Dz[g, c_g]``, which keeps sign and interactions through the
softmax: quantities that additive scores throw away. One forward pass per group and choice buys
predictions of cross-entropy, KL and accuracy for every policy, in microseconds each; means over
samples can be resampled for intervals without further passes. Unmeasured groups (float choices)
shift nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.sensitivity.logits import log_softmax, logsumexp

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]
CHUNK_BYTES = 32 << 20
RESAMPLES = 200


@dataclass(frozen=True, eq=False)
class Superposition:
    """Single-layer logit shifts of a space.

    Attributes:
        base: logits of the float model, ``float32[n, classes]``.
        shifts: change of the logits by each choice of each group alone,
            ``float32[groups, most choices, n, classes]``; 0 where there is no such choice.
        labels: class of each sample ``int64[n]``, or None; -1 where a sketch dropped it.
        bucket: whether the last class gathers all that a sketch dropped; it is never an answer.
    """

    base: Singles
    shifts: Singles
    labels: Codes | None = None
    bucket: bool = False

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.base)

    def predict(self, codes: Codes) -> dict[str, Floats]:
        """Predicted qualities of policies.

        Args:
            codes: ``int[P, groups]`` (or one policy, ``int[groups]``).

        Returns:
            ``{"kl": float[P]}`` in nats and, with labels, ``"ce"`` in nats and ``"accuracy"``.
        """
        parts = [
            {name: values.mean(axis=1) for name, values in part.items()}
            for part in self._each(np.atleast_2d(codes))
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The fields as plain arrays; without labels there is no ``labels``."""
        found: dict[str, npt.NDArray[Any]] = {"base": self.base, "shifts": self.shifts}
        if self.labels is not None:
            found["labels"] = self.labels
        return found | {"bucket": np.array(self.bucket)}

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Superposition:
        """Made again from :meth:`arrays`; an opened ``.npz`` will do."""
        labels = arrays.get("labels")
        return cls(arrays["base"], arrays["shifts"], labels, bool(arrays["bucket"]))

    def losses(self, codes: Codes, metric: str = "ce") -> Floats:
        """A quality on every sample, ``float[P, n]``; what resampling works on.

        Raises:
            KeyError: the metric needs labels and there are none.
        """
        return np.concatenate([part[metric] for part in self._each(np.atleast_2d(codes))])

    def swaps(self, codes: Codes, metric: str = "ce") -> Floats:
        """A quality after changing one group of one policy ``int[groups]``.

        Returns:
            ``float[groups, most choices]``; the entry of the current choice is the policy's own.
        """
        here = self.base + self.shifts[np.arange(len(codes)), codes].sum(axis=0)
        rows = []
        for shifts, code in zip(self.shifts, codes, strict=True):
            rows.append(self._qualities(here + (shifts - shifts[code]))[metric].mean(axis=1))
        return np.array(rows)

    def resampled(
        self,
        codes: Codes,
        rng: np.random.Generator,
        metric: str = "ce",
        resamples: int = RESAMPLES,
    ) -> Floats:
        """Bootstrap over samples: the quality under each resample, ``float[resamples, P]``."""
        shares = rng.multinomial(self.n, np.full(self.n, 1 / self.n), size=resamples) / self.n
        found: Floats = shares @ self.losses(codes, metric).T
        return found

    def front_probability(
        self,
        codes: Codes,
        costs: Floats,
        rng: np.random.Generator,
        metric: str = "ce",
        resamples: int = RESAMPLES,
    ) -> Floats:
        """How often each policy is nondominated when the samples are drawn again, ``float[P]``.

        Args:
            codes: ``int[P, groups]``.
            costs: what quality is traded against, ``float[P]``; smaller is better.
            rng: draws the resamples.
            metric: quality, smaller is better.
            resamples: number of draws.
        """
        values = self.resampled(codes, rng, metric, resamples)
        order = np.lexsort((values.mean(axis=0), costs))
        sorted_ = values[:, order]
        best = np.minimum.accumulate(sorted_, axis=1)
        before = np.concatenate([np.full((len(values), 1), np.inf), best[:, :-1]], axis=1)
        probability = np.empty(len(order))
        probability[order] = (sorted_ < before).mean(axis=0)
        return probability

    def _each(self, codes: Codes) -> Iterator[dict[str, Floats]]:
        """Qualities per sample, ``float[some, n]`` each, chunk by chunk."""
        size = max(CHUNK_BYTES // max(self.base.nbytes, 1), 1)
        for start in range(0, max(len(codes), 1), size):
            part = codes[start : start + size]
            logits = np.repeat(self.base[None], len(part), axis=0)
            for group, shifts in enumerate(self.shifts):
                logits += shifts[part[:, group]]
            yield self._qualities(logits)

    def _qualities(self, logits: Singles) -> dict[str, Floats]:
        """Per-sample qualities of logits ``[P, n, classes]``, ``float[P, n]`` each."""
        found = log_softmax(logits)
        kl = (np.exp(self._reference) * (self._reference - found)).sum(axis=2)
        qualities = {"kl": np.maximum(kl, 0.0)}
        if self.labels is not None:
            taken = np.broadcast_to(self.labels[None, :, None], (len(found), self.n, 1))
            qualities["ce"] = -np.take_along_axis(found, taken, axis=2)[:, :, 0]
            answers = found[:, :, : found.shape[2] - self.bucket].argmax(axis=2)
            qualities["accuracy"] = (answers == self.labels).astype(np.float64)
        return qualities

    @cached_property
    def _reference(self) -> Floats:
        return log_softmax(self.base)


def sketched(full: Superposition, classes: int) -> Superposition:
    """Keeps the likeliest classes of every sample and gathers the others in one bucket.

    The bucket's logit is the log-sum-exp of what it gathers, so probabilities of the float model
    and of each single-layer shift stay exact; sums of shifts are approximate in the bucket. The
    label of a sample is always kept.

    Args:
        full: with more than ``classes`` classes.
        classes: kept per sample, bucket included; at least 2.
    """
    order = np.argsort(-full.base, axis=1, kind="stable")
    if full.labels is not None:
        first = order != full.labels[:, None]
        order = np.take_along_axis(order, np.argsort(first, axis=1, kind="stable"), axis=1)
    kept, rest = order[:, : classes - 1], order[:, classes - 1 :]
    base = _gathered(full.base[None], kept, rest)[0]
    moved = [_gathered(full.base + shifts, kept, rest) - base for shifts in full.shifts]
    labels = None if full.labels is None else np.zeros(full.n, dtype=np.int64)
    return Superposition(base, np.stack(moved), labels, bucket=True)


def _gathered(logits: Singles, kept: Codes, rest: Codes) -> Singles:
    """``[P, n, classes]`` as kept classes and the log-sum-exp of the rest."""
    chosen = np.take_along_axis(logits, kept[None], axis=2)
    others = logsumexp(np.take_along_axis(logits, rest[None], axis=2))
    return np.concatenate([chosen, others.astype(np.float32)], axis=2)
