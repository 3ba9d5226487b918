"""What happens to the float model before anything is quantized."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from torch import Tensor, nn

from quant.errors import DataError
from quant.folding import NormStatistics, fold_batch_norm, share_copy
from quant.method import Method
from quant.ptq.equalize import absorb_bias, equalize
from quant.ptq.smooth import smooth


@dataclass(frozen=True)
class Prepared:
    """A float model ready for calibration.

    Attributes:
        module: a copy in structure; tensors that did not change are shared with the given model.
        norms: what folded batch norms say of their layers' outputs, by layer name.
        batches: the calibration inputs; a list where they will be read again.
    """

    module: nn.Module
    norms: Mapping[str, NormStatistics]
    batches: Iterable[Tensor]


def prepare(model: nn.Module, method: Method, batches: Iterable[Tensor]) -> Prepared:
    """Folds batch norms and applies the repairs of the float model, which keep its function.

    Raises:
        DataError: the method reads batch norms and the model has none that fold.
    """
    example, batches = _peek(list(batches) if method.needs_batches else batches)
    if not method.fold_batch_norm:
        module, norms = share_copy(model).eval(), {}
    else:
        folded = fold_batch_norm(model, example)
        module, norms = folded.model, dict(folded.statistics)
    if method.needs_norms and not norms:
        raise no_norms(f"method '{method.name}'")
    if "equalize" in method.repair:
        equalize(module, norms)
    if "absorb_bias" in method.repair:
        absorb_bias(module, norms)
    if "smooth" in method.repair:
        smooth(module, batches)
    return Prepared(module, norms, batches)


def no_norms(who: str) -> DataError:
    """The error for data-free methods on models without batch norms."""
    return DataError(
        f"{who} needs batch norms, and the model has none that can be used",
        expected="a model with batch norms behind convolutions or linear layers",
        fix="calibrate on data: calibration: data",
    )


def _peek(batches: Iterable[Tensor]) -> tuple[Tensor | None, Iterable[Tensor]]:
    """The first batch's first sample where there is one, and all batches."""
    remaining = iter(batches)
    first = next(remaining, None)
    usable = isinstance(first, Tensor) and first.dim() > 0 and first.numel() > 0
    example = first[:1] if usable and first is not None else None
    if isinstance(batches, list) or first is None:
        return example, batches
    return example, chain([first], remaining)
