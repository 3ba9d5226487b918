"""Edge terms of a space from fitted conversions, vectorised over policies.

A pair term ``v s_l s_m`` (both take integers) that saves time is written as
``v/2 (s_l + s_m) + |v|/2 [s_l != s_m]``: the first half joins the layers' own entries, the second
is a penalty on neighbours that disagree. Edge terms are therefore never negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hw_profiles.backends.base import Backend
from hw_profiles.conversions import Conversions
from hw_profiles.keys import FLOAT_EDGE, choices_by_layer
from spaces.space import SearchSpace

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
CHUNK = 1 << 14


@dataclass(frozen=True)
class FittedEdges:
    """What conversions add to a space's table of layers.

    Attributes:
        unary_ms: added to each choice of each group, ``float[groups, most choices]``.
        integer: whether a group's choice makes the layer at each end take integers,
            ``bool[pairs, 2, most choices]``.
        ends: groups of each pair, ``int[pairs, 2]``.
        differ_ms: added when exactly one end takes integers, ``float[pairs]``, >= 0.
        agree_ms: added when both do, ``float[pairs]``, >= 0.
    """

    unary_ms: Floats
    integer: Bools
    ends: Codes
    differ_ms: Floats
    agree_ms: Floats

    @staticmethod
    def of(space: SearchSpace, backend: Backend, found: Conversions) -> FittedEdges:
        """Spreads conversions over the groups of ``space``."""
        width = max(len(group.all_choices) for group in space.groups)
        unary = np.zeros((len(space.groups), width))
        integer = {layer.name: np.zeros(width, dtype=np.bool_) for layer in space.layers}
        for layer, choice in choices_by_layer(space):
            group = space.group_of[layer.name]
            code = space.groups[group].all_choices.index(choice)
            kernel = backend.runs_as(layer, choice)
            unary[group, code] += found.unary_ms.get(layer.name, {}).get(kernel.text, 0.0)
            integer[layer.name][code] = backend.edges(layer, kernel)[0] != FLOAT_EDGE
        for *pair, value in found.pairs_ms:
            for name in pair:
                unary[space.group_of[name]] += min(value, 0.0) / 2 * integer[name]
        pairs = [(first, second) for first, second, _ in found.pairs_ms]
        values = np.array([value for *_, value in found.pairs_ms])
        return FittedEdges(
            unary,
            np.array([[integer[a], integer[b]] for a, b in pairs]).reshape(-1, 2, width),
            np.array([[space.group_of[a], space.group_of[b]] for a, b in pairs]).reshape(-1, 2),
            np.maximum(-values, 0.0) / 2,
            np.maximum(values, 0.0),
        )

    def latency_ms(self, codes: Codes) -> Floats:
        """Edge terms of policies ``int[P, groups]``, ``float[P]``, milliseconds."""
        parts = [self._chunk_ms(codes[i : i + CHUNK]) for i in range(0, len(codes), CHUNK)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _chunk_ms(self, codes: Codes) -> Floats:
        pairs = np.arange(len(self.ends))[:, None]
        taken = np.ascontiguousarray(codes.T)
        first = self.integer[pairs, 0, taken[self.ends[:, 0]]]
        second = self.integer[pairs, 1, taken[self.ends[:, 1]]]
        total: Floats = self.differ_ms @ (first ^ second) + self.agree_ms @ (first & second)
        return total


def spread(table: Floats, constant: float) -> Floats:
    """Adds a constant to every policy's sum over ``float[groups, choices]`` (NaN-padded).

    Groups whose cheapest choice is negative are lifted to zero first, as far as the constant
    reaches; what is left is shared evenly. Sums over a table are then whole latencies, and
    budgets computed from it are budgets of policies.
    """
    need = np.maximum(-np.nanmin(table, axis=1), 0.0)
    if need.sum() > max(constant, 0.0):
        share = constant * need / need.sum()
    else:
        share = need + (constant - need.sum()) / len(table)
    shifted: Floats = table + share[:, None]
    return shifted
