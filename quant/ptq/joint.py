"""Repairs that look at several layers of one policy at once, behind one door."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quant.attach import Attachment, Filling
from quant.calibration import StreamingHistogram
from quant.choice import LayerChoice
from quant.formats import Format
from quant.ptq.blocks import Target, capture, find_blocks, reconstruct
from quant.ptq.codes import LayerWeight
from quant.ptq.lapq import minimise_loss


@dataclass(frozen=True)
class JointRepair:
    """Applies ``brecq``, ``qdrop`` or ``lapq`` to a policy.

    Attributes:
        name: the repair, or empty for none.
        module: the float model with ``attachment`` in place.
        attachment: its slots.
        batches: calibration inputs.
        job: what is known for rounding a layer's weight.
        histograms: of the layers' inputs.
        generator: a generator for a purpose.
    """

    name: str
    module: nn.Module
    attachment: Attachment
    batches: Iterable[Tensor]
    job: Callable[[str, Format, str], LayerWeight]
    histograms: Mapping[str, StreamingHistogram]
    generator: Callable[[str], torch.Generator]

    def repair(
        self,
        assignment: Mapping[str, LayerChoice],
        filled: Mapping[str, Filling],
        known: dict[object, dict[str, Tensor]],
    ) -> dict[str, Filling]:
        """Slots of a policy, repaired; the slots are empty before and after.

        Args:
            assignment: choice of every layer.
            filled: what the slots would hold without the repair.
            known: rounded weights of blocks seen before; new ones are added.
        """
        result = dict(filled)
        if self.name == "lapq":
            jobs = {n: self.job(n, c.weight, c.method) for n, c in assignment.items()}
            inputs = {n: c.activation for n, c in assignment.items()}
            return minimise_loss(
                self.module, self.attachment, list(self.batches), result, jobs, inputs,
                self.histograms,
            )  # fmt: skip
        for block in find_blocks(self.module, list(assignment)):
            key = (block, tuple(assignment[name] for name in block.layers))
            if key not in known:
                target = Target(
                    block,
                    {n: filled[n] for n in block.layers},
                    {n: self._quantizers(n, assignment[n], filled[n]) for n in block.layers},
                )
                samples = capture(
                    self.module, block, self.batches, self.generator(f"labels {block.name}")
                )
                known[key] = reconstruct(
                    self.module,
                    self.attachment,
                    target,
                    samples,
                    drop=0.5 if self.name == "qdrop" else 0.0,
                    generator=self.generator(f"{block.name} {key[1]}"),
                )
            for name, weight in known[key].items():
                result[name] = filled[name]._replace(weight=weight)
        return result

    def _quantizers(self, name: str, choice: LayerChoice, filling: Filling) -> LayerWeight | None:
        """What rounds the layer's weight, where it has an integer grid to choose from."""
        if filling.weight is None or choice.weight.kind != "int":
            return None
        return self.job(name, choice.weight, choice.method)
