"""A model that takes any assignment of formats to layers within microseconds.

Calibration runs once; quantized weights and input ranges are computed when first asked for and
kept per layer and format. The given model and its tensors are never written to, so weights may
be read-only memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quant.activations import (
    DynamicQuantizer,
    StaticQuantizer,
    check_activation_format,
    static_qparams,
)
from quant.affine import QParams, check_finite
from quant.attach import Filling, Quantizer, attach
from quant.calibration import MinMax
from quant.calibration.base import squared_error
from quant.choice import LayerChoice
from quant.errors import UsageError, unknown
from quant.formats import FLOAT32, Format, Timing
from quant.method import Method
from quant.prepare import prepare
from quant.ptq.analytic import input_means
from quant.ptq.bias import bias_shift
from quant.ptq.codes import LayerWeight, round_weight
from quant.ptq.joint import JointRepair
from quant.ptq.names import NEEDS_MOMENTS, splits
from quant.ptq.reestimate import reestimate
from quant.slices import CONVS, SliceLayout
from quant.statistics import collect
from quant.weights import Rounder

__all__ = ["LayerChoice", "QuantizedModel"]


class QuantizedModel:
    """A calibrated model whose layers can be switched between formats.

    Args:
        model: the float model; it is copied in structure, its tensors are shared.
        layer_names: layers that may be quantized.
        method: how ranges are found and what is repaired.
        calibration: batches of model inputs; read in eval mode, once unless a repair reads them
            again.
        layer_methods: methods of their own that layers may be given, so that what they need is
            gathered in the same pass.

    Raises:
        UsageError: a layer name is unknown or has no quantizable weight.
        DataError: a weight or an activation is NaN or infinite (the layer is named), there is
            no calibration data, or the method reads batch norms and there are none.
    """

    def __init__(
        self,
        model: nn.Module,
        layer_names: Sequence[str],
        method: Method,
        calibration: Iterable[Tensor],
        layer_methods: Iterable[str] = (),
    ) -> None:
        self.source = model
        prepared = prepare(model, method, calibration)
        self.module, self.norms = prepared.module, prepared.norms
        self.layer_names = tuple(layer_names)
        self.method = method
        self._batches = prepared.batches
        self._means = self._analytic_means()
        self.attachment = attach(self.module, self.layer_names)
        self._weights: dict[tuple[str, Format, str], Tensor] = {}
        self._shifts: dict[tuple[str, Format, str], Tensor] = {}
        self._errors: dict[tuple[str, Format, str], float] = {}
        self._inputs: dict[tuple[str, Format], Quantizer] = {}
        self._input_errors: dict[tuple[str, Format], float] = {}
        for name in self.layer_names:
            check_finite(self.original(name), f"the weight of layer '{name}'")
        self._has_moments = method.needs_moments(layer_methods)
        gathered = collect(
            self.module,
            self.attachment,
            prepared.batches,
            moments=self._has_moments,
            norms=self.norms if method.calibration == "batch_norm" else None,
            generator=self._generator("calibration"),
        )
        self.statistics, self._moments = gathered.histograms, gathered.moments
        self._blocks: dict[object, dict[str, Tensor]] = {}
        self._joint = JointRepair(
            method.joint,
            self.module,
            self.attachment,
            self._batches,
            self._job,
            self.statistics,
            self._generator,
        )

    def __call__(self, *inputs: Tensor) -> Any:
        """Output of the model as currently assigned."""
        return self.module(*inputs)

    def forward(self, *inputs: Tensor) -> Any:
        """Same as calling the model."""
        return self.module(*inputs)

    def apply(self, assignment: Mapping[str, LayerChoice]) -> None:
        """Switches every named layer to its choice and all others to float.

        Raises:
            UsageError: unknown layer or method, or a format the tensor cannot take; nothing has
                changed.
            DataError: a static activation format on a layer no calibration data reached.
        """
        filled = {name: self._filling(name, choice) for name, choice in assignment.items()}
        self.float_()
        quantized = not all(filling.is_float for filling in filled.values())
        if self._joint.name and quantized:
            filled = self._joint.repair(assignment, filled, self._blocks)
        for name, filling in filled.items():
            self.attachment.set(name, **filling._asdict())
        if "bn_reestimate" in self.method.repair and quantized:
            reestimate(self.module, self.attachment, self.norms, self._batches)

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
        three-dimensional convolutions, layers no data reached) as plain rounding does. Repairs
        of several layers at once take part in :meth:`apply` only.
        """
        key = (layer, fmt, method)
        if key not in self._weights:
            with torch.no_grad():
                way = self.method.recipe(method).way
                self._weights[key] = round_weight(self._job(layer, fmt, method), way)
        return self._weights[key]

    def weight_quantizer(self, layer: str, fmt: Format, method: str = "") -> Rounder:
        """Calibrated quantizer of a layer's weight, differentiable in the weight."""
        return self._job(layer, fmt, method).quantizer()

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
            linear = isinstance(self.module.get_submodule(layer), nn.Linear)
            return DynamicQuantizer(fmt, features_last=linear)
        calibrator = self.method.activations()
        return StaticQuantizer(static_qparams(self.statistics[layer], fmt, calibrator))

    def _filling(self, layer: str, choice: LayerChoice) -> Filling:
        quantizer = self.input_quantizer(layer, choice.activation)
        if choice.weight == FLOAT32:
            return Filling(input=quantizer)
        key = (layer, choice.weight, choice.method)
        return Filling(self.weight(*key), quantizer, self._shift(key))

    def _shift(self, key: tuple[str, Format, str]) -> Tensor | None:
        """Correction of the layer's bias, or None where there is none."""
        layer, moments = key[0], self._moments.get(key[0])
        mean = self._means.get(layer)
        if "bias_correction" in self.method.repair and moments is not None:
            mean = moments.mean
        if mean is None:
            return None
        if key not in self._shifts:
            module, rounded = self.module.get_submodule(layer), self.weight(*key)
            self._shifts[key] = bias_shift(module, self.original(layer), rounded, mean)
        return self._shifts[key]

    def _job(self, layer: str, fmt: Format, method: str) -> LayerWeight:
        weight = self.original(layer).detach()
        module = self.module.get_submodule(layer)
        recipe = self.method.recipe(method)
        if recipe.way in NEEDS_MOMENTS and not self._has_moments:
            raise UsageError(
                f"the method '{recipe.way}' of layer '{layer}' was not announced",
                expected="every method a layer may be given, before calibration",
                fix=f"QuantizedModel(..., layer_methods=['{method}'])",
            )
        return LayerWeight(
            weight,
            SliceLayout.of(module, fmt.granularity, fmt.group_size),
            fmt,
            recipe.calibrator,
            f"the weight of layer '{layer}'",
            self._moments.get(layer),
            self._generator(f"{layer} {fmt}"),
            splits(_op_of(module), getattr(module, "groups", 1)),
        )

    def _analytic_means(self) -> dict[str, Tensor]:
        """``E[u]`` of layers whose inputs norms describe; empty unless it is asked for."""
        if "analytic_bias" not in self.method.repair:
            return {}
        return input_means(self.module, list(self.layer_names), self.norms)

    def _generator(self, purpose: str) -> torch.Generator:
        """Randomness of one purpose; the order of requests does not matter."""
        digest = hashlib.sha256(f"{self.method.seed} {purpose}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def _check(self, layer: str) -> None:
        if layer not in self.attachment.names:
            raise unknown("layer", layer, self.layer_names, where="quantized model")


def _op_of(module: nn.Module) -> str:
    """``linear``, ``conv2d`` and so on; other classes never split."""
    if isinstance(module, nn.Linear):
        return "linear"
    names = {1: "conv1d", 2: "conv2d", 3: "conv3d"}
    return names[len(module.kernel_size)] if isinstance(module, CONVS) else ""
