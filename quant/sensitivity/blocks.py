"""The tensors a Hessian is taken by: weights of layers, and the tensors entering them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from quant.errors import UsageError
from quant.model import QuantizedModel

Loss = Callable[[Any, Tensor], Tensor]

# Accepted by autograd, but their gradient is zero everywhere.
_STEPS = frozenset({"round", "floor", "ceil", "trunc", "sign", "sgn", "heaviside"})


class Block(NamedTuple):
    """One diagonal block of the Hessian.

    Attributes:
        layer: name of a layer.
        tensor: ``"weight"`` or ``"input"``.
    """

    layer: str
    tensor: str


class Slope(NamedTuple):
    """The loss at one batch, differentiated by one block.

    Attributes:
        leaves: tensors of the block; a layer that runs twice has two inputs, one that does not
            run has none.
        grads: their gradients, differentiable once more.
    """

    leaves: list[Tensor]
    grads: list[Tensor]


class Leaves:
    """Differentiates a loss by every block of a model; made by :func:`differentiable`."""

    def __init__(self, model: QuantizedModel, layers: Sequence[str], inputs: bool) -> None:
        self._model = model
        self._weights = {n: model.original(n).detach().requires_grad_() for n in layers}
        self._inputs: dict[str, list[Tensor]] = {n: [] for n in layers} if inputs else {}
        model.float_()
        for name in layers:
            shift = self._shifter(name) if inputs else None
            model.attachment.set(name, weight=self._weights[name], input=shift)

    def slopes(self, x: Tensor, labels: Tensor, loss: Loss) -> dict[Block, Slope]:
        """Gradients of ``loss(model(x), labels)`` by every block.

        Raises:
            UsageError: an op on the way has no gradient; it is named.
        """
        for found in self._inputs.values():
            found.clear()
        with torch.enable_grad(), _GradientWatch() as watch:
            value = loss(self._model(x), labels)
        blocks = {Block(name, "weight"): [leaf] for name, leaf in self._weights.items()}
        blocks.update({Block(n, "input"): list(found) for n, found in self._inputs.items()})
        flat = [leaf for leaves in blocks.values() for leaf in leaves]
        try:
            grads = iter(torch.autograd.grad(value, flat, create_graph=True, allow_unused=True))
        except RuntimeError as cause:
            raise no_derivative(str(cause), watch.lost) from cause
        result = {}
        for block, leaves in blocks.items():
            pairs = [(leaf, grad) for leaf in leaves if (grad := next(grads)) is not None]
            slope = Slope([leaf for leaf, _ in pairs], [grad for _, grad in pairs])
            watch.check(block, slope)
            result[block] = slope
        return result

    def _shifter(self, name: str) -> Callable[[Tensor], Tensor]:
        """Adds a leaf of zeros to an input, so that the loss can be differentiated by it."""

        def shift(x: Tensor) -> Tensor:
            leaf = torch.zeros_like(x).requires_grad_()
            self._inputs[name].append(leaf)
            return x + leaf

        return shift


@contextmanager
def differentiable(
    model: QuantizedModel, layers: Sequence[str], *, inputs: bool
) -> Iterator[Leaves]:
    """Puts leaves that require gradients into the weights (and inputs) of ``layers``.

    The leaves share memory with the float weights and nothing is written. On exit the model
    computes in float.
    """
    try:
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            yield Leaves(model, layers, inputs)
    finally:
        model.float_()


def no_derivative(message: str, suspects: Sequence[str] = ()) -> UsageError:
    """The error for a model that autograd cannot differentiate far enough."""
    match = re.search(r"derivative for '?(?:aten::)?(\w+)'? is not implemented", message)
    names = [match[1]] if match else suspects
    op = f"op {_quoted(names)}" if names else "an op"
    return UsageError(
        f"{op} of the model cannot be differentiated as often as a Hessian score needs",
        where=message.splitlines()[0],
        fix="use a score without gradients, for example sqnr",
    )


class _GradientWatch(TorchFunctionMode):
    """Notes the functions behind which a gradient is lost, and those where it is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: list[str] = []
        self.steps: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        tracked = any(isinstance(arg, Tensor) and arg.requires_grad for arg in args)
        if tracked and isinstance(result, Tensor) and name != "get":
            if not result.requires_grad:
                self.lost.append(name)
            elif name in _STEPS:
                self.steps.append(name)
        return result

    def check(self, block: Block, slope: Slope) -> None:
        """Raises UsageError when a function noted here keeps the gradient from a block."""
        if not slope.grads:
            names = self.lost
        elif not any(bool(grad.any()) for grad in slope.grads):
            names = self.steps
        else:
            return
        if names:
            raise UsageError(
                f"no gradient reaches layer '{block.layer}': op {_quoted(names)} passes none on",
                fix="use a score without gradients, for example sqnr",
            )


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in dict.fromkeys(names))
