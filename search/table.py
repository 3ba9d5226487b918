"""The candidate table of a run: journal lines joined with costs and mean bit-widths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from hw_profiles.cost import CostModel
from search.records import JournalLine, to_frame
from spaces.space import SearchSpace

Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def codes_of(lines: Sequence[JournalLine], space: SearchSpace) -> Codes:
    """Codes of every line, ``int[n, groups]``."""
    return np.array([line.codes for line in lines], dtype=np.int64).reshape(
        len(lines), len(space.groups)
    )


def mean_bits(space: SearchSpace, codes: Codes) -> tuple[Floats, Floats]:
    """Mean weight bits (by weight count) and activation bits (by MACs) of ``int[P, groups]``."""
    width = max(len(group.all_choices) for group in space.groups)
    weight, activation = (np.zeros((len(space.groups), width)) for _ in range(2))
    weights, macs = 0, 0
    for g, group in enumerate(space.groups):
        members = [space.layer_named[name] for name in group.layers]
        n_weights = sum(layer.weight_count for layer in members)
        n_macs = sum(layer.macs for layer in members)
        weights, macs = weights + n_weights, macs + n_macs
        for c, choice in enumerate(group.all_choices):
            weight[g, c] = choice.weight.bits * n_weights
            activation[g, c] = choice.activation.bits * n_macs
    rows = np.arange(len(space.groups))
    return (
        weight[rows, codes].sum(axis=1) / max(weights, 1),
        activation[rows, codes].sum(axis=1) / max(macs, 1),
    )


def in_space(space: SearchSpace, codes: Codes) -> npt.NDArray[np.bool_]:
    """Which policies take searchable choices only, ``bool[P]``."""
    return np.asarray((codes < space.sizes).all(axis=1))


def candidate_table(
    lines: Sequence[JournalLine], space: SearchSpace, costs: CostModel
) -> pd.DataFrame:
    """One row per journal line; columns are listed in ``docs/run_directory.md``."""
    frame = to_frame(lines)
    codes = codes_of(lines, space)
    for metric, values in costs.costs(codes).items():
        frame[metric] = values
    frame["mean_weight_bits"], frame["mean_activation_bits"] = mean_bits(space, codes)
    frame["searchable"] = in_space(space, codes)
    return frame
