"""The search space: tie groups x choices, with what was cut and why."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.errors import DataError, UsageError, nearest
from spaces.choices import Choice, parse_choice
from spaces.layers import LayerSpec, SkippedOp
from spaces.policy import Policy

SCHEMA_VERSION = 1
MAX_CHOICES = 62
"""Most choices of one group: records write a code as one character of ``0-9a-zA-Z``."""
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """Layers that take the same choice.

    Attributes:
        name: name of the first layer in execution order.
        layers: member names in execution order.
        choices: options a strategy may take, as configured; a single one means fixed.
        extra: further choices only baselines take (for example float32); their codes follow
            those of ``choices``, so a policy of the space keeps its codes.
    """

    name: str
    layers: tuple[str, ...]
    choices: tuple[Choice, ...]
    extra: tuple[Choice, ...] = ()

    @property
    def all_choices(self) -> tuple[Choice, ...]:
        """Searchable choices, then baseline-only ones."""
        return self.choices + self.extra

    @property
    def is_fixed(self) -> bool:
        """True when there is nothing to choose."""
        return len(self.choices) == 1


@dataclass(frozen=True, slots=True)
class Cut:
    """A configured choice that was removed from a layer, and the reason."""

    layer: str
    choice: str
    reason: str


@dataclass(frozen=True)
class SearchSpace:
    """Every policy that may be chosen for one model on one device.

    A policy is also written as *codes*, ``int[groups]``: the index of the choice taken by each
    group. Codes are what strategies, solvers and cost models compute with.
    """

    name: str
    layers: tuple[LayerSpec, ...]
    groups: tuple[Group, ...]
    skipped: tuple[SkippedOp, ...] = ()
    cuts: tuple[Cut, ...] = ()

    @cached_property
    def sizes(self) -> Codes:
        """Number of searchable choices of each group, ``int[groups]``."""
        return np.array([len(group.choices) for group in self.groups], dtype=np.int64)

    @property
    def cardinality(self) -> int:
        """Number of policies (an exact integer, however large)."""
        return math.prod(len(group.choices) for group in self.groups)

    @cached_property
    def group_of(self) -> Mapping[str, int]:
        """Group index of each layer name."""
        return {name: i for i, group in enumerate(self.groups) for name in group.layers}

    @cached_property
    def _group_of_layer(self) -> list[tuple[str, int]]:
        """Layers as executed, each with the index of its group."""
        return [(layer.name, self.group_of[layer.name]) for layer in self.layers]

    @cached_property
    def layer_named(self) -> Mapping[str, LayerSpec]:
        """Layer of each name."""
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def _texts(self) -> list[list[str]]:
        """Choice texts of each group in code order."""
        return [[choice.text for choice in group.all_choices] for group in self.groups]

    @cached_property
    def _ties(self) -> list[Group]:
        """Groups of several layers."""
        return [group for group in self.groups if len(group.layers) > 1]

    @cached_property
    def _codes_of_text(self) -> list[dict[str, int]]:
        return [{text: code for code, text in enumerate(texts)} for texts in self._texts]

    def policy(self, codes: Sequence[int] | Codes) -> Policy:
        """Builds the policy of ``codes``, ``int[groups]``.

        Raises:
            UsageError: wrong length, or a code outside its group's choices (extra included).
        """
        if len(codes) != len(self.groups):
            raise UsageError(
                f"{len(codes)} codes for {len(self.groups)} groups", where=f"space '{self.name}'"
            )
        plain = np.asarray(codes, dtype=np.int64).tolist()
        for group, texts, code in zip(self.groups, self._texts, plain, strict=True):
            if not 0 <= code < len(texts):
                raise UsageError(
                    f"code {code} of group '{group.name}' is outside its choices",
                    expected=f"0..{len(texts) - 1}",
                )
        chosen = [texts[code] for texts, code in zip(self._texts, plain, strict=True)]
        return Policy({name: chosen[group] for name, group in self._group_of_layer})

    def codes(self, policy: Policy) -> Codes:
        """The inverse of :meth:`policy`.

        Raises:
            UsageError: the policy names another layer set, breaks a tie, or takes a choice this
                space does not offer.
        """
        if policy.choices.keys() != self.group_of.keys():
            odd = sorted(set(policy.choices) ^ set(self.group_of))[0]
            raise UsageError(
                f"policy and space '{self.name}' differ in layer '{odd}'",
                fix=nearest(odd, self.group_of) or "use a policy of this model",
            )
        for group in self._ties:
            taken = sorted({policy.choices[name] for name in group.layers})
            if len(taken) > 1:
                raise UsageError(f"layers tied to '{group.name}' take different choices: {taken}")
        texts = [policy.choices[group.name] for group in self.groups]
        for group, offered, text in zip(self.groups, self._codes_of_text, texts, strict=True):
            if text not in offered:
                raise UsageError(
                    f"choice '{text}' is not offered for layer '{group.name}'",
                    where=f"space '{self.name}'",
                    expected=f"one of: {', '.join(offered)}",
                )
        found = [offered[text] for offered, text in zip(self._codes_of_text, texts, strict=True)]
        return np.array(found, dtype=np.int64)

    def sample(self, rng: np.random.Generator, n: int) -> Codes:
        """Draws ``n`` independent uniform policies as codes ``int[n, groups]``."""
        return rng.integers(0, self.sizes, size=(n, len(self.groups)))

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``layers.json`` (schema version 1)."""
        return {
            "schema_version": SCHEMA_VERSION,
            "space": self.name,
            "cardinality": str(self.cardinality),
            "layers": [asdict(layer) for layer in self.layers],
            "groups": [
                {
                    "name": group.name,
                    "layers": list(group.layers),
                    "choices": [choice.text for choice in group.choices],
                    "extra": [choice.text for choice in group.extra],
                    "labels": [choice.label for choice in group.all_choices],
                }
                for group in self.groups
            ],
            "skipped": [asdict(item) for item in self.skipped],
            "cuts": [asdict(item) for item in self.cuts],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> SearchSpace:
        """Reads what :meth:`to_json` wrote.

        Raises:
            DataError: written by a newer bitfront.
        """
        version = data.get("schema_version")
        if version != SCHEMA_VERSION:
            raise DataError(
                f"layers.json has schema version {version}",
                expected=f"at most {SCHEMA_VERSION}",
                fix="upgrade bitfront, or read the run with the version that wrote it",
            )
        layers = tuple(LayerSpec(**_tuples(item)) for item in data["layers"])
        groups = tuple(
            Group(g["name"], tuple(g["layers"]), _choices(g["choices"]), _choices(g["extra"]))
            for g in data["groups"]
        )
        skipped = tuple(SkippedOp(**item) for item in data["skipped"])
        cuts = tuple(Cut(**item) for item in data["cuts"])
        return SearchSpace(data["space"], layers, groups, skipped, cuts)

    def dumps(self) -> str:
        """Deterministic JSON text, the input of hashes."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))


def _choices(texts: Sequence[str]) -> tuple[Choice, ...]:
    return tuple(parse_choice(text) for text in texts)


def _tuples(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}
