"""Logit shifts of every choice of every group alone: what kl, ce and lss are all made of.

One float pass, then for each group and choice a pass over what the group reaches
(:mod:`quant.sensitivity.replay`). Choices equal to float cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quant.errors import DataError
from quant.formats import FLOAT32
from quant.model import LayerChoice
from quant.sensitivity.base import Progress, ScoreContext
from quant.sensitivity.replay import Replay, Values, traced_runs

Singles = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LogitShifts:
    """What each choice of each group alone does to the logits.

    Attributes:
        base: float logits, ``float32[n, classes]``.
        shifts: ``float32[groups, most choices, n, classes]``; 0 where there is no such choice.
        forward_equivalents: work in passes over the inputs, by share of multiply-accumulates.
        full_forwards: passes the same took without prefix caching.
        notes: why prefixes could not be kept, if so.
    """

    base: Singles
    shifts: Singles
    forward_equivalents: float
    full_forwards: float
    notes: tuple[str, ...] = ()


@torch.no_grad()
def logit_shifts(
    ctx: ScoreContext, progress: Progress | None = None, *, replay: bool = True
) -> LogitShifts:
    """Tries every choice of every group alone; leaves the model in float.

    Args:
        ctx: model, groups, choices and inputs.
        progress: called with (groups done, groups).
        replay: keep prefixes; False runs the whole model each time (the slow definition).

    Raises:
        DataError: the model answers NaN or infinity under a choice (the layer is named).
    """
    runs = runs_of(ctx, replay=replay)
    base = runs.float_logits()
    most = max(map(len, ctx.choices), default=0)
    shifts = np.zeros((len(ctx.groups), most, *base.shape), dtype=np.float32)
    work, full = 1.0, 1.0
    for g, (group, choices) in enumerate(zip(ctx.groups, ctx.choices, strict=True)):
        runs.at(group)
        for c, choice in enumerate(choices):
            if is_float(choice):
                continue
            ctx.quantized.apply(dict.fromkeys(group, choice))
            found = runs.logits()
            if not bool(torch.isfinite(found).all()):
                raise DataError(f"the model answers NaN with '{choice}' in layer '{group[0]}'")
            shifts[g, c] = (found.double() - base.double()).float().numpy()
            work, full = work + runs.share, full + 1
        if progress:
            progress(g + 1, len(ctx.groups))
    ctx.quantized.float_()
    whole = replay and isinstance(runs, _Whole)
    notes = ("the model cannot be traced: every pass ran whole",) if whole else ()
    return LogitShifts(base.float().numpy(), shifts, work, full, notes)


def runs_of(ctx: ScoreContext, *, replay: bool = True) -> Runs:
    """Passes over the context's inputs, with prefixes kept where the model allows it."""
    ctx.quantized.float_()
    batches = list(torch.split(ctx.inputs, ctx.batch_size))
    traced = traced_runs(ctx.quantized.module, ctx.layers, batches) if replay else None
    return _Replayed(*traced) if traced else _Whole(ctx, batches)


class Runs(Protocol):
    """Passes of a model some of whose layers are changed."""

    @property
    def share(self) -> float:
        """Work of one pass, in whole passes."""
        ...

    def float_logits(self) -> Tensor:
        """Logits of the float model, ``[n, classes]``; the model must be in float."""
        ...

    def at(self, group: tuple[str, ...]) -> None:
        """Announces which layers the next passes change."""

    def logits(self) -> Tensor:
        """Logits of the model as it stands, ``[n, classes]``."""
        ...


def is_float(choice: LayerChoice) -> bool:
    """True for a choice that leaves its layers as they are."""
    return choice.weight == FLOAT32 and choice.activation == FLOAT32


class _Whole:
    """Runs the whole model every time."""

    share = 1.0

    def __init__(self, ctx: ScoreContext, batches: list[Tensor]) -> None:
        self._ctx, self._batches = ctx, batches

    def float_logits(self) -> Tensor:
        return self.logits()

    def at(self, group: tuple[str, ...]) -> None:
        """Nothing depends on the group."""

    def logits(self) -> Tensor:
        return torch.cat([self._ctx.quantized(batch) for batch in self._batches])


class _Replayed:
    """Runs what lies downstream of the current group."""

    def __init__(self, replay: Replay, values: list[Values]) -> None:
        self._replay, self._values = replay, values
        self._nodes: tuple[torch.fx.Node, ...] = ()
        self._macs = replay.macs(values[0])
        self.share = 0.0

    def float_logits(self) -> Tensor:
        output = next(n for n in reversed(self._replay.module.graph.nodes) if n.op == "output")
        return torch.cat([values.of[output] for values in self._values])

    def at(self, group: tuple[str, ...]) -> None:
        self._nodes = self._replay.downstream(group)
        reached = {str(node.target) for node in self._nodes if node.op == "call_module"}
        total = sum(self._macs.values())
        self.share = sum(macs for name, macs in self._macs.items() if name in reached) / total

    def logits(self) -> Tensor:
        return torch.cat([values.replayed(self._nodes) for values in self._values])
