"""A model that takes any assignment of formats to layers within microseconds.

Calibration runs once; quantized weights and input ranges are computed when first asked for and
kept per layer and format. The given model and its tensors are never written to, so weights may
be read-only memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from quant.activations import (
    DynamicQuantizer,
    StaticQuantizer,
    check_activation_format,
    static_qparams,
)
from quant.affine import QParams, check_finite
from quant.attach import Quantizer, attach
from quant.calibration import MinMax, StreamingHistogram
from quant.calibration.base import squared_error
from quant.errors import DataError, unknown
from quant.folding import fold_batch_norm, share_copy
from quant.formats import FLOAT32, Format, Timing
from quant.method import Method
from quant.ptq.bias import bias_shift
from quant.ptq.equalize import equalize
from quant.ptq.moments import InputMoments
from quant.ptq.rounding import adaround, gptq
from quant.slices import SliceLayout
from quant.weights import WeightQuantizer, weight_quantizer


class LayerChoice(Protocol):
    """What one layer takes; ``method`` is empty or names a weight calibrator."""

    @property
    def weight(self) -> Format:
        """Format of the weight."""
        ...

    @property
    def activation(self) -> Format:
        """Format of the tensor entering the layer."""
        ...

    @property
    def method(self) -> str:
        """Name of a weight calibrator for this layer, or empty for the study's."""
        ...


class QuantizedModel:
    """A calibrated model whose layers can be switched between formats.

    Args:
        model: the float model; it is copied in structure, its tensors are shared.
        layer_names: layers that may be quantized.
        method: how ranges are found and whether batch norms are folded first.
        calibration: batches of model inputs; read once, in eval mode.

    Raises:
        UsageError: a layer name is unknown or has no quantizable weight.
        DataError: a weight or an activation is NaN or infinite (the layer is named), or there
            is no calibration data.
    """

    def __init__(
        self,
        model: nn.Module,
        layer_names: Sequence[str],
        method: Method,
        calibration: Iterable[Tensor],
    ) -> None:
        folds = method.fold_batch_norm
        self.module = fold_batch_norm(model).model if folds else share_copy(model).eval()
        self.layer_names = tuple(layer_names)
        self.method = method
        if "equalize" in method.repair:
            equalize(self.module)
        self.attachment = attach(self.module, self.layer_names)
        self._weights: dict[tuple[str, Format, str], Tensor] = {}
        self._shifts: dict[tuple[str, Format, str], Tensor] = {}
        self._moments = self._empty_moments()
        self._errors: dict[tuple[str, Format, str], float] = {}
        self._inputs: dict[tuple[str, Format], Quantizer] = {}
        self._input_errors: dict[tuple[str, Format], float] = {}
        for name in self.layer_names:
            check_finite(self.original(name), f"the weight of layer '{name}'")
        self.statistics = self._calibrate(calibration)

    def __call__(self, *inputs: Tensor) -> Any:
        """Output of the model as currently assigned."""
        return self.module(*inputs)

    def forward(self, *inputs: Tensor) -> Any:
        """Same as calling the model."""
        return self.module(*inputs)

    def apply(self, assignment: Mapping[str, LayerChoice]) -> None:
        """Switches every named layer to its choice and all others to float.

        Raises:
            UsageError: unknown layer, or a format the tensor cannot take; nothing has changed.
            DataError: a static activation format on a layer no calibration data reached.
        """
        filled = []
        for name, choice in assignment.items():
            weight = self._filling(name, choice)
            shift = None if weight is None else self._shift(name, choice)
            filled.append((name, weight, self.input_quantizer(name, choice.activation), shift))
        self.float_()
        for name, weight, quantizer, shift in filled:
            self.attachment.set(name, weight=weight, input=quantizer, shift=shift)

    def float_(self) -> None:
        """Switches every layer to float."""
        self.attachment.clear()

    def original(self, layer: str) -> Tensor:
        """Float weight of a layer (batch norm folded); do not write to it."""
        self._check(layer)
        return self.attachment.original(layer)

    def weight(self, layer: str, fmt: Format, method: str = "") -> Tensor:
        """Weight of a layer as ``fmt`` stores it, repaired; do not write to it.

        Repairs that need input moments leave layers without them (transposed and
        three-dimensional convolutions, layers no data reached) as plain rounding does.
        """
        key = (layer, fmt, method)
        if key not in self._weights:
            with torch.no_grad():
                quantizer = self.weight_quantizer(layer, fmt, method)
                self._weights[key] = self._rounded(layer, quantizer)
        return self._weights[key]

    def _rounded(self, layer: str, quantizer: WeightQuantizer) -> Tensor:
        weight, moments = self.original(layer).detach(), self._moments.get(layer)
        fmt = quantizer.qparams.fmt
        if moments is not None and moments.count and not fmt.is_float:
            if "gptq" in self.method.repair:
                return gptq(weight, quantizer, moments.second)
            if "adaround" in self.method.repair and fmt.kind == "int":
                return adaround(weight, quantizer, moments.second)
        return quantizer(weight)

    def _shift(self, layer: str, choice: LayerChoice) -> Tensor | None:
        """Correction of the layer's bias, or None where there is none."""
        moments = self._moments.get(layer)
        if "bias_correction" not in self.method.repair or moments is None or not moments.count:
            return None
        key = (layer, choice.weight, choice.method)
        if key not in self._shifts:
            module, rounded = self.module.get_submodule(layer), self.weight(*key)
            self._shifts[key] = bias_shift(module, self.original(layer), rounded, moments.mean)
        return self._shifts[key]

    def _empty_moments(self) -> dict[str, InputMoments]:
        if not self.method.needs_moments:
            return {}
        modules = {name: self.module.get_submodule(name) for name in self.layer_names}
        return {n: InputMoments(m) for n, m in modules.items() if InputMoments.supports(m)}

    def weight_quantizer(self, layer: str, fmt: Format, method: str = "") -> WeightQuantizer:
        """Calibrated quantizer of a layer's weight, differentiable in the weight."""
        weight = self.original(layer)
        module = self.module.get_submodule(layer)
        layout = SliceLayout.of(module, fmt.granularity, fmt.group_size)
        calibrator = self.method.weights(method)
        return weight_quantizer(weight, layout, fmt, calibrator, name=_weight_of(layer))

    def weight_error(self, layer: str, fmt: Format, method: str = "") -> float:
        """Squared L2 distance between the float and the quantized weight."""
        key = (layer, fmt, method)
        if key not in self._errors:
            difference = self.weight(layer, fmt, method) - self.original(layer).detach()
            self._errors[key] = float(difference.double().square().sum())
        return self._errors[key]

    def input_qparams(self, layer: str, fmt: Format) -> QParams:
        """Scale and zero point (0-dim) of the tensor entering a layer.

        Raises:
            UsageError: the format is dynamic or has more than one scale.
            DataError: no calibration data reached the layer.
        """
        quantizer = self.input_quantizer(layer, fmt)
        if isinstance(quantizer, StaticQuantizer):
            return quantizer.qparams
        return static_qparams(self.statistics[layer], fmt, self.method.activations())

    def input_quantizer(self, layer: str, fmt: Format) -> Quantizer | None:
        """Function that rounds the tensor entering a layer; None for float32.

        Raises:
            UsageError: the format has more than one scale.
            DataError: no calibration data reached the layer.
        """
        self._check(layer)
        if fmt == FLOAT32:
            return None
        key = (layer, fmt)
        if key not in self._inputs:
            self._inputs[key] = self._build_input(layer, fmt)
        return self._inputs[key]

    def input_error(self, layer: str, fmt: Format) -> float:
        """Mean squared rounding error of the tensor entering a layer, from its histogram.

        Dynamic formats are taken to span the range of the whole calibration data. 0 for float
        formats and for layers no data reached.
        """
        self._check(layer)
        statistics = self.statistics[layer]
        if fmt.is_float or not statistics.count:
            return 0.0
        key = (layer, fmt)
        if key not in self._input_errors:
            check_activation_format(fmt)
            dynamic = fmt.timing is Timing.DYNAMIC
            calibrator = MinMax() if dynamic else self.method.activations()
            data = statistics.distribution()
            error = squared_error(data, *calibrator.range(data, fmt), fmt)
            self._input_errors[key] = float(error) / statistics.count
        return self._input_errors[key]

    def input_power(self, layer: str) -> float:
        """Mean square of the tensor entering a layer; 0 where no data arrived."""
        self._check(layer)
        data = self.statistics[layer].distribution()
        total = float((data.values.square() * data.counts).sum())
        return total / max(self.statistics[layer].count, 1)

    def _build_input(self, layer: str, fmt: Format) -> Quantizer:
        check_activation_format(fmt)
        if fmt.timing is Timing.DYNAMIC:
            return DynamicQuantizer(fmt)
        calibrator = self.method.activations()
        return StaticQuantizer(static_qparams(self.statistics[layer], fmt, calibrator))

    def _filling(self, layer: str, choice: LayerChoice) -> Tensor | None:
        if choice.weight == FLOAT32:
            self._check(layer)
            return None
        return self.weight(layer, choice.weight, choice.method)

    def _check(self, layer: str) -> None:
        if layer not in self.attachment.names:
            raise unknown("layer", layer, self.layer_names, where="quantized model")

    @torch.no_grad()
    def _calibrate(self, batches: Iterable[Tensor]) -> dict[str, StreamingHistogram]:
        """Runs every batch once in float and counts the inputs of all layers."""
        found = {n: StreamingHistogram(f"the input of layer '{n}'") for n in self.layer_names}
        for name, histogram in found.items():
            self.attachment.set(name, input=_recorder(histogram, self._moments.get(name)))
        empty = True
        for batch in batches:
            if not isinstance(batch, Tensor):
                raise DataError(
                    f"a calibration batch is a {type(batch).__name__}",
                    expected="a tensor of model inputs, [n, ...]",
                    fix="yield the inputs alone, without labels",
                )
            self.module(batch)
            empty = empty and batch.numel() == 0
        self.float_()
        if empty:
            raise DataError(
                "there is no calibration data",
                expected="at least one batch with one sample",
                fix="check the size of the calibration split",
            )
        return found


def _recorder(histogram: StreamingHistogram, moments: InputMoments | None) -> Quantizer:
    def record(x: Tensor) -> Tensor:
        histogram.update(x)
        if moments is not None and x.numel():
            moments.update(x)
        return x

    return record


def _weight_of(layer: str) -> str:
    return f"the weight of layer '{layer}'"
