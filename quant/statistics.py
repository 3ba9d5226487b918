"""What calibration gathers: declared by those who need it, collected in one pass for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quant.attach import Attachment, Quantizer
from quant.calibration import StreamingHistogram
from quant.errors import DataError
from quant.folding import NormStatistics
from quant.ptq.moments import InputMoments


@dataclass(frozen=True)
class Statistics:
    """Of the tensors entering the layers of one float model.

    Attributes:
        histograms: by layer name.
        moments: by layer name, of the layers that support them and that data reached; empty
            unless they were asked for.
    """

    histograms: Mapping[str, StreamingHistogram]
    moments: Mapping[str, InputMoments]


@torch.no_grad()
def collect(
    model: nn.Module,
    attachment: Attachment,
    batches: Iterable[Tensor],
    *,
    moments: bool,
    norms: Mapping[str, NormStatistics] | None = None,
    generator: torch.Generator | None = None,
) -> Statistics:
    """Runs every batch once in float; the slots are empty afterwards.

    Memory: one batch of activations, the histograms, and the moments where they are asked for.

    Args:
        model: the float model with ``attachment`` in place.
        attachment: its slots.
        batches: model inputs.
        moments: whether to gather input moments.
        norms: when given, the outputs of these layers are replaced by normal samples with their
            norms' mean and deviation, so that the batches' contents hardly matter.
        generator: source of those samples.

    Raises:
        DataError: a batch is no tensor, no batch holds a sample, or an input is NaN or infinite.
    """
    names = attachment.names
    histograms = {n: StreamingHistogram(f"the input of layer '{n}'") for n in names}
    modules = {n: model.get_submodule(n) for n in names}
    wanted = modules.items() if moments else ()
    gathered = {n: InputMoments(m) for n, m in wanted if InputMoments.supports(m)}
    for name in names:
        attachment.set(name, input=_recorder(histograms[name], gathered.get(name)))
        if norms and name in norms:
            assert generator is not None
            attachment.set_output(name, _sampler(modules[name], norms[name], generator))
    try:
        _run(model, batches)
    finally:
        attachment.clear()
    return Statistics(histograms, {n: m for n, m in gathered.items() if m.count})


def _run(model: nn.Module, batches: Iterable[Tensor]) -> None:
    empty = True
    for batch in batches:
        if not isinstance(batch, Tensor):
            raise DataError(
                f"a calibration batch is a {type(batch).__name__}",
                expected="a tensor of model inputs, [n, ...]",
                fix="yield the inputs alone, without labels",
            )
        model(batch)
        empty = empty and batch.numel() == 0
    if empty:
        raise DataError(
            "there is no calibration data",
            expected="at least one batch with one sample",
            fix="check the size of the calibration split",
        )


def _recorder(histogram: StreamingHistogram, moments: InputMoments | None) -> Quantizer:
    def record(x: Tensor) -> Tensor:
        histogram.update(x)
        if moments is not None and x.numel():
            moments.update(x)
        return x

    return record


def _sampler(module: nn.Module, known: NormStatistics, generator: torch.Generator) -> Quantizer:
    """Replaces an output by samples of ``N(mean, std^2)`` per channel."""

    def sample(y: Tensor) -> Tensor:
        noise = torch.randn(y.shape, generator=generator, dtype=y.dtype)
        sides = 0 if isinstance(module, nn.Linear) else y.dim() - 2
        shape = (-1, *[1] * sides)
        return noise * known.std.reshape(shape) + known.mean.reshape(shape)

    return sample
