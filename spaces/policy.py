"""A policy: one complete assignment of choices to layers. Immutable, with a stable id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from spaces.choices import Choice, parse_choice


@dataclass(frozen=True)
class Policy:
    """Choice of every layer of a model.

    Attributes:
        choices: ``{layer name: choice text}``; the order of insertion does not matter.
    """

    choices: Mapping[str, str] = field(hash=False)

    @cached_property
    def canonical(self) -> str:
        """Canonical JSON: sorted keys, no spaces, UTF-8."""
        return json.dumps(
            dict(self.choices), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    @property
    def policy_id(self) -> str:
        """First 12 hex digits of :attr:`digest`."""
        return self.digest[:12]

    def __hash__(self) -> int:
        return hash(self.canonical)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Policy) and self.canonical == other.canonical

    def __getitem__(self, layer: str) -> Choice:
        return parse_choice(self.choices[layer])

    def __iter__(self) -> Iterator[str]:
        return iter(self.choices)

    def __len__(self) -> int:
        return len(self.choices)
