"""From a quantized model to one that computes in integers alone.

The model is traced, run once in simulation on the calibration data to learn how large every
tensor gets, and rebuilt operator by operator in :mod:`quant.integer.steps`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from quant.affine import QParams, quantize
from quant.choice import LayerChoice
from quant.errors import UsageError
from quant.folding import NormTracer
from quant.formats import Granularity
from quant.integer import steps
from quant.integer.functions import SHARE_BITS
from quant.model import QuantizedModel
from quant.numbers import LayerNumbers, layer_numbers

SHAPES = ("transpose", "flatten", "reshape", "view", "permute", "contiguous", "unflatten")
"""Functions and methods that only move codes."""
SUPPORTED = (
    "convolution, linear, ReLU, GELU, softmax, layer norm, mean and average pooling over whole "
    "axes, max pooling, unfolding, addition, matrix product, division by a number, reshaping"
)


@dataclass(frozen=True)
class Stream:
    """What is known of a tensor before anything runs.

    Attributes:
        step: real value of one code.
        largest: largest magnitude over the calibration data.
        rank: number of axes.
    """

    step: float
    largest: float
    rank: int


@dataclass(frozen=True)
class Instruction:
    """One operator of the converted model: where its results go and what it reads."""

    target: str
    operator: Callable[..., Tensor]
    reads: tuple[str, ...]


class IntegerModel(nn.Module):
    """A model on integers.

    Attributes:
        grid: how a real input becomes codes; the only place where floats are read.
        layers: layers by name, for inspection.
        step: real value of one step of a logit.
    """

    def __init__(
        self,
        instructions: Iterable[Instruction],
        source: str,
        result: str,
        grid: QParams,
        step: float,
        layers: Mapping[str, steps.Layer],
    ) -> None:
        super().__init__()
        self._instructions = tuple(instructions)
        self._operators = nn.ModuleList(
            item.operator for item in self._instructions if isinstance(item.operator, nn.Module)
        )
        self._source, self._result = source, result
        self.grid, self.step, self.layers = grid, step, dict(layers)

    def encode(self, x: Tensor) -> Tensor:
        """Codes of a real input on the first layer's grid, zero point taken off, int64."""
        return (quantize(x, self.grid) - self.grid.zero_point).long()

    def forward(self, codes: Tensor) -> Tensor:
        """Integer logits of integer input codes."""
        known = {self._source: codes}
        for item in self._instructions:
            known[item.target] = item.operator(*(known[name] for name in item.reads))
        return known[self._result]

    def logits(self, x: Tensor) -> Tensor:
        """Real logits of a real input: codes in, integers through, one factor at the end."""
        found: Tensor = self(self.encode(x)) * self.step
        return found


def integer_model(
    quantized: QuantizedModel,
    choices: Mapping[str, LayerChoice],
    calibration: Iterable[Tensor],
) -> IntegerModel:
    """Converts a calibrated model under a policy.

    Args:
        quantized: the model; the policy is applied to it and taken off again.
        choices: of every layer; integer weights with scales per tensor, rows or channel, and
            static integer inputs.
        calibration: batches that tell how large tensors get.

    Raises:
        UsageError: a format or an operator that integers cannot compute; names it and lists
            what is supported.
    """
    _check(choices)
    quantized.apply(choices)
    try:
        numbers = layer_numbers(quantized, choices)
        _check_codes(numbers)
        traced = fx.GraphModule(quantized.module, _Tracer().trace(quantized.module))
        sizes = _sizes(traced, calibration)
        return _Builder(traced, numbers, sizes).built()
    finally:
        quantized.float_()


def _check(choices: Mapping[str, LayerChoice]) -> None:
    whole = (Granularity.TENSOR, Granularity.CHANNEL, Granularity.ROWS)
    for name, choice in choices.items():
        weight, activation = choice.weight, choice.activation
        static = activation.kind == "int" and activation.timing == "static"
        if weight.kind != "int" or weight.granularity not in whole or not static:
            raise UsageError(
                f"layer '{name}' takes {weight}/{activation}",
                where="integer-only inference",
                expected="integer weights with a scale per tensor, rows or channel, and static "
                "integer inputs, in every layer",
                fix="choose a policy of such formats, for example w8a8",
            )


def _check_codes(numbers: Mapping[str, LayerNumbers]) -> None:
    for name, found in numbers.items():
        if found.codes is None:
            raise UsageError(
                f"the weight of layer '{name}' is not on the grid of its format",
                where="integer-only inference",
                fix="search without repairs of several layers at once and without split",
            )


class _Tracer(NormTracer):
    """Traces through containers; layers, norms and torch's own modules stay whole."""


def _sizes(traced: fx.GraphModule, calibration: Iterable[Tensor]) -> dict[str, tuple[float, int]]:
    """Largest magnitude and rank of every tensor."""
    found: dict[str, tuple[float, int]] = {}

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, Tensor) and result.numel():
                largest = float(result.detach().abs().max())
                before = found.get(n.name, (0.0, 0))[0]
                found[n.name] = max(before, largest), result.dim()
            return result

    with torch.no_grad():
        for batch in calibration:
            Watch(traced).run(batch)
    return found


class _Builder:
    """Walks the traced graph once."""

    def __init__(
        self,
        traced: fx.GraphModule,
        numbers: Mapping[str, LayerNumbers],
        sizes: Mapping[str, tuple[float, int]],
    ) -> None:
        self.traced, self.numbers, self.sizes = traced, numbers, sizes
        self.streams: dict[str, Stream] = {}
        self.instructions: list[Instruction] = []
        self.layers: dict[str, steps.Layer] = {}
        self.alias: dict[str, str] = {}
        self.source = self.result = ""

    def built(self) -> IntegerModel:
        first = next(
            str(node.target)
            for node in self.traced.graph.nodes
            if node.op == "call_module" and node.target in self.numbers
        )
        grid = self.numbers[first].input
        assert grid is not None
        for node in self.traced.graph.nodes:
            if node.op == "placeholder":
                self.source = node.name
                self._know(node, float(grid.scale))
            elif node.op == "output":
                self.result = self._name(node.args[0])
            elif node.op == "call_module":
                self._module(node, self.traced.get_submodule(str(node.target)))
            elif node.op in ("call_function", "call_method"):
                self._function(node)
        step = self.streams[self.result].step
        return IntegerModel(self.instructions, self.source, self.result, grid, step, self.layers)

    def _module(self, node: fx.Node, module: nn.Module) -> None:
        (source,) = (self._name(item) for item in node.args)
        stream, fine = self.streams[source], self._fine(node)
        if node.target in self.numbers:
            layer = steps.Layer(module, self.numbers[str(node.target)], stream.step, fine)
            if not layer.fits:
                raise UsageError(
                    f"sums of layer '{node.target}' reach {layer.largest}, beyond int32",
                    where="integer-only inference",
                    fix="fewer bits for this layer",
                )
            self.layers[str(node.target)] = layer
            self._emit(node, layer, (source,), fine)
        elif isinstance(module, nn.Identity | nn.Dropout | nn.Flatten | nn.Unflatten):
            self._emit(node, module, (source,), stream.step)
        elif isinstance(module, nn.ReLU):
            self._emit(node, _relu, (source,), stream.step)
        elif isinstance(module, nn.GELU) and module.approximate == "none":
            self._emit(node, steps.Gelu(stream.step, fine), (source,), fine)
        elif isinstance(module, nn.Softmax) and module.dim in (-1, stream.rank - 1):
            self._emit(node, steps.Softmax(stream.step), (source,), 2.0**-SHARE_BITS)
        elif isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
            self._emit(node, steps.LayerNorm(module, stream.step, fine), (source,), fine)
        elif isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
            self._emit(node, steps.Mean((-2, -1), keep=True), (source,), stream.step)
        elif isinstance(module, nn.Unfold | nn.MaxPool2d) and _is_plain(module):
            kernel, stride = _pair(module.kernel_size), _pair(module.stride)
            kind = steps.Patches if isinstance(module, nn.Unfold) else steps.MaxPool
            self._emit(node, kind(kernel, stride), (source,), stream.step)
        else:
            raise _unsupported(str(node.target), type(module).__name__)

    def _function(self, node: fx.Node) -> None:
        name = node.target if isinstance(node.target, str) else node.target.__name__
        if name in SHAPES:
            source, rest = self._name(node.args[0]), tuple(node.args[1:])
            self._emit(
                node, _moved(str(name), rest, node.kwargs), (source,), self.streams[source].step
            )
        elif name in ("add", "iadd"):
            self._sum(node)
        elif name in ("matmul",):
            reads = tuple(self._name(item) for item in node.args)
            found = [self.streams[item] for item in reads]
            fine = self._fine(node)
            product = steps.Product([s.step for s in found], [s.largest for s in found], fine)
            self._emit(node, product, reads, fine)
        elif name in ("truediv", "mul") and isinstance(node.args[1], int | float):
            source, by = self._name(node.args[0]), float(node.args[1])
            step = self.streams[source].step * (by if name == "mul" else 1 / by)
            self._emit(node, _same, (source,), step)
        elif name == "relu":
            source = self._name(node.args[0])
            self._emit(node, _relu, (source,), self.streams[source].step)
        elif name == "mean":
            self._mean(node)
        else:
            raise _unsupported(node.name, str(name))

    def _sum(self, node: fx.Node) -> None:
        fine = self._fine(node)
        constants = [item for item in node.args if self._constant(item) is not None]
        if constants:
            source = next(item for item in node.args if item not in constants)
            value = self._constant(constants[0])
            assert value is not None
            read = self._name(source)
            made = steps.Constant(value.detach(), self.streams[read].step, fine)
            self._emit(node, made, (read,), fine)
            return
        reads = tuple(self._name(item) for item in node.args)
        made_sum = steps.Sum([self.streams[item].step for item in reads], fine)
        self._emit(node, made_sum, reads, fine)

    def _mean(self, node: fx.Node) -> None:
        source = self._name(node.args[0])
        dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        if dims is None:
            raise _unsupported(node.name, "mean over everything")
        axes = tuple(dims) if isinstance(dims, tuple | list) else (dims,)
        keep = bool(node.kwargs.get("keepdim", False))
        self._emit(node, steps.Mean(axes, keep=keep), (source,), self.streams[source].step)

    def _constant(self, item: Any) -> Tensor | None:
        if not isinstance(item, fx.Node) or item.op != "get_attr":
            return None
        owner, _, name = str(item.target).rpartition(".")
        value = getattr(self.traced.get_submodule(owner), name)
        return value if isinstance(value, Tensor) else None

    def _emit(
        self, node: fx.Node, made: Callable[..., Tensor], reads: tuple[str, ...], step: float
    ) -> None:
        self.instructions.append(Instruction(node.name, made, reads))
        self._know(node, step)

    def _know(self, node: fx.Node, step: float) -> None:
        largest, rank = self.sizes[node.name]
        self.streams[node.name] = Stream(step, largest, rank)

    def _fine(self, node: fx.Node) -> float:
        return steps.stream_step(self.sizes[node.name][0])

    def _name(self, item: Any) -> str:
        if not isinstance(item, fx.Node) or item.name not in self.streams:
            raise _unsupported(str(item), "an operand that is no activation")
        return item.name


def _relu(x: Tensor) -> Tensor:
    return x.clamp(min=0)


def _same(x: Tensor) -> Tensor:
    return x


def _moved(
    name: str, rest: tuple[Any, ...], options: Mapping[str, Any]
) -> Callable[[Tensor], Tensor]:
    def move(x: Tensor) -> Tensor:
        found: Tensor = operator.methodcaller(name, *rest, **options)(x)
        return found

    return move


def _is_plain(module: nn.Module) -> bool:
    """No padding, no dilation, no ceiling."""
    settings = {"padding": 0, "dilation": 1}
    same = all(_pair(getattr(module, name)) == (v, v) for name, v in settings.items())
    return same and not getattr(module, "ceil_mode", False)


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _unsupported(name: str, what: str) -> UsageError:
    return UsageError(
        f"'{name}' is {what}, which has no integer form here",
        where="integer-only inference",
        expected=SUPPORTED,
    )


class _Refuse(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises on the first float an operator reads or writes."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for item in tree_leaves((args, kwargs, result)):
            if isinstance(item, Tensor) and item.is_floating_point():
                msg = f"{func} computes on {item.dtype}"
                raise AssertionError(msg)
        return result


@contextmanager
def integers_only() -> Iterator[None]:
    """Within it, an operator on floats is an error: the proof of an integer-only model."""
    with _Refuse():  # type: ignore[no-untyped-call]
        yield
