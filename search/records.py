"""Records of a run: one result per evaluated candidate, one journal line per result.

A run directory is described in ``docs/run_directory.md``. Journals are append-only JSON lines,
one file per incarnation of a trial; the last line may be torn by a crash and is then dropped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from quant.errors import DataError

SCHEMA_VERSION = 1
ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
OK, FAILED = "ok", "failed"


@dataclass(frozen=True, slots=True)
class Result:
    """What evaluating one policy on one split gave.

    Attributes:
        quality_key: hash of task, weights, data, split, method, rung and policy.
        policy_id: see :class:`spaces.policy.Policy`.
        ce: mean cross-entropy against the labels, nats.
        kl: mean KL divergence from the float model's distribution, nats.
        accuracy: share of correct top-1 answers, 0..1.
        n: number of samples.
        standard_error: standard error of ``ce`` over samples.
        status: ``"ok"`` or ``"failed"``; a failed result has NaN qualities.
        error: why it failed and where (:func:`search.failures.told`), empty otherwise.
        eval_s: seconds spent evaluating.
    """

    quality_key: str
    policy_id: str
    ce: float
    kl: float
    accuracy: float
    n: int
    standard_error: float
    status: str = OK
    error: str = ""
    eval_s: float = 0.0

    @property
    def ok(self) -> bool:
        """True when the qualities are numbers."""
        return self.status == OK

    @staticmethod
    def failure(quality_key: str, policy_id: str, error: str, eval_s: float = 0.0) -> Result:
        """A result that records why a candidate has no qualities."""
        nan = math.nan
        return Result(quality_key, policy_id, nan, nan, nan, 0, nan, FAILED, error, eval_s)


@dataclass(frozen=True, slots=True)
class Counters:
    """Work done by a trial up to and including a line.

    Attributes:
        true: policies evaluated on search-validation.
        surrogate: surrogate look-ups.
        forward: evaluation-equivalents spent on anything else, scores included (one quantized
            forward over search-validation is 1; a backward counts 2).
    """

    true: int = 0
    surrogate: int = 0
    forward: float = 0.0


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One candidate as written to ``trials/<strategy>-<seed>-<incarnation>.jsonl``.

    Attributes:
        result: the qualities.
        codes: choice index of every group of the space in ``layers.json``.
        strategy: name of the strategy, or ``"baseline"``.
        seed: seed of the trial.
        incarnation: distinguishes restarts of the same trial.
        seq: position within the trial, from 0.
        wall_s: seconds since the trial started, score time included.
        counters: work done so far.
        tag: a name a person knows the policy by (``"fp32"``, ``"w8a8"``), else empty.
        extra: strategy-specific numbers (learning curves); never read by the front.
        unix_s: when it was done, seconds since 1970 UTC; NaN in journals written before it was
            recorded.
    """

    result: Result
    codes: tuple[int, ...]
    strategy: str
    seed: int
    incarnation: str
    seq: int
    wall_s: float
    counters: Counters = Counters()
    tag: str = ""
    extra: Mapping[str, float] = field(default_factory=dict)
    unix_s: float = math.nan

    def to_json(self) -> str:
        """One line of JSON without the newline; NaN is written as null."""
        # Written out: dataclasses.asdict copies deeply and costs more than the rest together.
        result, counters = self.result, self.counters
        data = {
            "schema_version": SCHEMA_VERSION,
            "quality_key": result.quality_key,
            "policy_id": result.policy_id,
            "ce": _finite(result.ce),
            "kl": _finite(result.kl),
            "accuracy": _finite(result.accuracy),
            "n": result.n,
            "standard_error": _finite(result.standard_error),
            "status": result.status,
            "error": result.error,
            "eval_s": _finite(result.eval_s),
            "codes": self.codes,
            "strategy": self.strategy,
            "seed": self.seed,
            "incarnation": self.incarnation,
            "seq": self.seq,
            "wall_s": self.wall_s,
            "counters": {
                "true": counters.true,
                "surrogate": counters.surrogate,
                "forward": counters.forward,
            },
            "tag": self.tag,
            "extra": {key: _finite(value) for key, value in self.extra.items()},
            "unix_s": _finite(self.unix_s),
        }
        return ENCODER.encode(data)

    @staticmethod
    def from_json(text: str) -> JournalLine:
        """Reads one line.

        Raises:
            DataError: the line was written by a newer bitfront.
            ValueError: the line is not a whole journal line.
        """
        data = json.loads(text)
        if not isinstance(data, dict) or "schema_version" not in data:
            msg = "not a journal line"
            raise ValueError(msg)
        if data["schema_version"] > SCHEMA_VERSION:
            raise DataError(
                f"journal line has schema version {data['schema_version']}",
                expected=f"at most {SCHEMA_VERSION}",
                fix="upgrade bitfront to read this run",
            )
        try:
            result = Result(**{name: _nan_null(data[name], name) for name in Result.__slots__})
            return JournalLine(
                result,
                tuple(data["codes"]),
                data["strategy"],
                data["seed"],
                data["incarnation"],
                data["seq"],
                data["wall_s"],
                Counters(**data["counters"]),
                data.get("tag", ""),
                {k: math.nan if v is None else v for k, v in data.get("extra", {}).items()},
                math.nan if data.get("unix_s") is None else data["unix_s"],
            )
        except (KeyError, TypeError) as cause:
            msg = f"incomplete journal line: {cause}"
            raise ValueError(msg) from cause


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _nan_null(value: Any, name: str) -> Any:
    return (
        math.nan if value is None and name in ("ce", "kl", "accuracy", "standard_error") else value
    )


def read_journal(path: Path) -> Iterator[JournalLine]:
    """Yields the whole lines of one journal; a torn last line is dropped.

    Raises:
        DataError: a line other than the last cannot be read.
    """
    lines = path.read_bytes().split(b"\n")
    whole, tail = lines[:-1], lines[-1]
    for number, raw in enumerate(whole, start=1):
        if not raw.strip():
            continue
        try:
            yield JournalLine.from_json(raw.decode())
        except ValueError as cause:
            if number == len(whole) and not tail:
                return
            raise DataError(
                f"journal line {number} cannot be read: {cause}",
                where=path.name,
                fix="restore the file from a backup, or delete the damaged line",
            ) from cause


def read_journals(trials_dir: Path) -> list[JournalLine]:
    """All lines of all journals of a run, in (strategy, seed, incarnation, seq) order.

    A retried trial can overlap its orphan: of several lines of one trial with the same
    candidate, the first by (seq, incarnation) is kept.
    """
    lines = [line for path in sorted(trials_dir.glob("*.jsonl")) for line in read_journal(path)]
    lines.sort(key=lambda line: (line.strategy, line.seed, line.seq, line.incarnation))
    seen: set[tuple[str, int, str]] = set()
    kept = []
    for line in lines:
        key = (line.strategy, line.seed, line.result.quality_key)
        if key not in seen:
            seen.add(key)
            kept.append(line)
    return kept


def to_frame(lines: Iterable[JournalLine]) -> pd.DataFrame:
    """Candidate table: one row per line, without costs (they are joined by profile).

    Columns: every field of :class:`Result`, ``codes`` (one character per group, see
    :func:`encode_codes`), ``strategy seed incarnation seq wall_s unix_s tag``,
    ``n_true n_surrogate n_forward``.
    """
    rows = [
        {
            **asdict(line.result),
            "codes": encode_codes(line.codes),
            "strategy": line.strategy,
            "seed": line.seed,
            "incarnation": line.incarnation,
            "seq": line.seq,
            "wall_s": line.wall_s,
            "unix_s": line.unix_s,
            "tag": line.tag,
            "n_true": line.counters.true,
            "n_surrogate": line.counters.surrogate,
            "n_forward": line.counters.forward,
        }
        for line in lines
    ]
    return pd.DataFrame(rows)


ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def encode_codes(codes: Iterable[int]) -> str:
    """Writes codes as one character per group (``0-9a-zA-Z``, at most 62 choices)."""
    return "".join(ALPHABET[code] for code in codes)


def decode_codes(text: str) -> tuple[int, ...]:
    """The inverse of :func:`encode_codes`."""
    return tuple(ALPHABET.index(char) for char in text)
