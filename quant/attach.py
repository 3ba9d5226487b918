"""One mechanism that puts quantizers into any supported layer, and takes them out again.

Each layer gets a weight slot (a parametrization), an input slot (a forward pre-hook) and an
output slot (a forward hook), once.
Afterwards a quantizer is switched by assigning to a slot, so trying another policy costs
microseconds; an empty slot is the float layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from quant.errors import UsageError, unknown
from quant.slices import QUANTIZABLE

Quantizer = Callable[[Tensor], Tensor]


class Filling(NamedTuple):
    """What the slots of one layer hold; see :meth:`Attachment.set`. Empty: a float layer."""

    weight: Tensor | Quantizer | None = None
    input: Quantizer | None = None
    shift: Tensor | None = None

    @property
    def is_float(self) -> bool:
        """True when all slots are empty."""
        return self.weight is None and self.input is None and self.shift is None


class Held(NamedTuple):
    """Slots of one layer beside its weight, as they are filled: see :meth:`Attachment.set`."""

    input: Quantizer | None
    shift: Tensor | None
    output: Quantizer | None


class _WeightSlot(nn.Module):
    """Parametrization that returns the weight, a stand-in for it, or a function of it."""

    def __init__(self) -> None:
        super().__init__()
        # Kept out of the module's tensors: a stand-in is neither a buffer nor a parameter.
        self.__dict__["content"] = None

    def forward(self, weight: Tensor) -> Tensor:
        content: Tensor | Quantizer | None = self.__dict__["content"]
        if content is None:
            return weight
        return content if isinstance(content, Tensor) else content(weight)


class _InputSlot:
    """Forward pre-hook that replaces the layer's input by a function of it."""

    def __init__(self) -> None:
        self.content: Quantizer | None = None

    def __call__(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self.content is None:
            return None
        if args:
            return (self.content(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "input": self.content(kwargs["input"])}


class _OutputSlot:
    """Forward hook that adds a constant to the layer's output and applies a function to it."""

    def __init__(self) -> None:
        self.shift: Tensor | None = None
        self.content: Quantizer | None = None

    def __call__(self, _: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if self.shift is None and self.content is None:
            return None
        shifted = output if self.shift is None else output + self.shift
        return shifted if self.content is None else self.content(shifted)


class Attachment:
    """The slots of the attached layers of one model; made by :func:`attach`."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = dict(modules)
        self._weights = {name: _WeightSlot() for name in modules}
        self._inputs = {name: _InputSlot() for name in modules}
        self._outputs = {name: _OutputSlot() for name in modules}
        self._hooks = [_fill(m, self._weights[n], self._inputs[n]) for n, m in modules.items()]
        self._hooks += [m.register_forward_hook(self._outputs[n]) for n, m in modules.items()]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the attached layers."""
        return tuple(self._modules)

    def original(self, name: str) -> Tensor:
        """The float weight of a layer, whatever its slot holds."""
        weight = self._modules[name].parametrizations["weight"].original  # type: ignore[index, union-attr]
        assert isinstance(weight, Tensor)
        return weight

    def set(
        self,
        name: str,
        *,
        weight: Tensor | Quantizer | None = None,
        input: Quantizer | None = None,
        shift: Tensor | None = None,
    ) -> None:
        """Fills the slots of a layer.

        Args:
            name: an attached layer.
            weight: a tensor used instead of the weight, a differentiable function of it, or
                None for the float weight.
            input: a function applied to the tensor entering the layer, or None.
            shift: added to the output, broadcastable, as a corrected bias would be; or None.

        Raises:
            UsageError: the layer is not attached.
        """
        self._check(name)
        self._weights[name].__dict__["content"] = weight
        self._inputs[name].content = input
        self._outputs[name].shift = shift
        self._outputs[name].content = None

    def held(self, name: str) -> Held:
        """What the slots of a layer hold now.

        Raises:
            UsageError: the layer is not attached.
        """
        self._check(name)
        output = self._outputs[name]
        return Held(self._inputs[name].content, output.shift, output.content)

    def set_output(self, name: str, output: Quantizer | None) -> None:
        """Puts a function of the (shifted) output into a layer's slot; :meth:`set` removes it.

        Raises:
            UsageError: the layer is not attached.
        """
        self._check(name)
        self._outputs[name].content = output

    def _check(self, name: str) -> None:
        if name not in self._modules:
            raise unknown("layer", name, self._modules, where="attached layers")

    def clear(self) -> None:
        """Empties all slots: the model computes in float again."""
        for name in self._modules:
            self.set(name)

    def detach(self) -> None:
        """Removes the slots; the model is again what it was, parameter objects included."""
        for hook in self._hooks:
            hook.remove()
        for name, module in self._modules.items():
            _remove(module, self._weights[name])
        self._modules = {}


def attach(model: nn.Module, names: Iterable[str]) -> Attachment:
    """Adds empty slots to the named layers of ``model``; its outputs do not change.

    Raises:
        UsageError: a name is unknown, repeated, of a module without a supported weight, or
            already attached.
    """
    known = dict(model.named_modules(remove_duplicate=False))
    modules: dict[str, nn.Module] = {}
    for name in names:
        if name not in known:
            offered = [n for n, m in known.items() if isinstance(m, QUANTIZABLE)]
            raise unknown("layer", name, offered, where="model")
        _check(name, known[name], modules)
        modules[name] = known[name]
    return Attachment(modules)


def _check(name: str, module: nn.Module, taken: Mapping[str, nn.Module]) -> None:
    if not isinstance(module, QUANTIZABLE):
        raise UsageError(
            f"layer '{name}' is a {type(module).__name__}, which has no quantizable weight",
            expected="Conv1d/2d/3d, ConvTranspose1d/2d/3d or Linear",
        )
    twin = next((other for other, seen in taken.items() if seen is module), None)
    if twin is not None:
        raise UsageError(
            f"layers '{twin}' and '{name}' are one module",
            fix="name it once; a shared module takes one choice",
        )
    if parametrize.is_parametrized(module, "weight"):
        slots = module.parametrizations["weight"]  # type: ignore[index]
        if any(isinstance(item, _WeightSlot) for item in slots):
            raise UsageError(
                f"layer '{name}' is already attached", fix="detach the first attachment"
            )


def _fill(module: nn.Module, weight: _WeightSlot, input: _InputSlot) -> RemovableHandle:
    # "unsafe" skips a trial call that would touch the weight; a slot never changes its shape.
    parametrize.register_parametrization(module, "weight", weight, unsafe=True)
    return module.register_forward_pre_hook(input, with_kwargs=True)


def _remove(module: nn.Module, slot: _WeightSlot) -> None:
    chain = module.parametrizations["weight"]  # type: ignore[index]
    if len(chain) == 1:
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
        return
    # The model brought its own parametrizations (weight norm): only the slot goes.
    assert isinstance(chain, nn.ModuleList)
    del chain[[item is slot for item in chain].index(True)]
