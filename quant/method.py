"""How a model is quantized: everything an accuracy depends on besides the formats."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from quant.calibration import CALIBRATORS, Calibrator, calibrator
from quant.errors import UsageError, unknown
from quant.ptq.names import (
    CODES,
    JOINT,
    NEEDS_BATCHES,
    NEEDS_MOMENTS,
    NEEDS_NORMS,
    PER_LAYER,
    PLAIN,
    REPAIRS,
    SPLIT,
)

SOURCES = ("data", "batch_norm", "distilled", "generated")
"""Where calibration inputs come from; all but the first need no data."""


@dataclass(frozen=True)
class Recipe:
    """How the weight of one layer is rounded.

    Attributes:
        calibrator: finds its ranges.
        way: key of :data:`quant.ptq.codes.WAYS`.
    """

    calibrator: Calibrator
    way: str


@dataclass(frozen=True)
class Method:
    """One recipe of post-training quantization.

    Attributes:
        name: the recipe's name in records and reports.
        weight_calibrator: name of a calibrator, one range per slice of the weight.
        activation_calibrator: name of a calibrator for tensors entering a layer.
        percentile: used by the calibrator ``"percentile"``, 50 < percentile <= 100.
        fold_batch_norm: fold batch norms into the layers before them first.
        repair: names of :data:`quant.ptq.names.REPAIRS`, whatever their order; at most one that
            chooses codes and one that corrects biases.
        calibration: one of :data:`SOURCES`.
        samples: inputs made up where ``calibration`` is not ``"data"``, at least 1.
        seed: of everything random in the method, 0 or more.

    Raises:
        UsageError: unknown calibrator, repair or source (with the nearest match), repairs that
            exclude each other or need what is not there, or a number out of range.
    """

    name: str = "mse"
    weight_calibrator: str = "mse"
    activation_calibrator: str = "mse"
    percentile: float = 99.9
    fold_batch_norm: bool = True
    repair: tuple[str, ...] = ()
    calibration: str = "data"
    samples: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        _check_repairs(self.repair)
        if self.calibration not in SOURCES:
            raise unknown("source", self.calibration, SOURCES, where="method.calibration")
        for name, least in (("samples", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"method.{name} is {getattr(self, name)}",
                    where=f"method.{name}",
                    expected=f"{least} or more",
                )
        if self.needs_norms and not self.fold_batch_norm:
            raise UsageError(
                "the method reads what folded batch norms say, but none are folded",
                where="method.fold_batch_norm",
                fix="fold_batch_norm: true",
            )
        self.weights()
        self.activations()

    def needs_moments(self, layer_methods: Iterable[str] = ()) -> bool:
        """Whether the method, or one of some layers' own, reads moments of layer inputs."""
        own = {word for method in layer_methods for word in method.split("+")}
        return bool(NEEDS_MOMENTS & {*self.repair, *own})

    @property
    def needs_norms(self) -> bool:
        """Whether the method reads what folded batch norms say of their layers."""
        return self.calibration == "batch_norm" or bool(NEEDS_NORMS & set(self.repair))

    @property
    def needs_batches(self) -> bool:
        """Whether calibration inputs are read again after calibration."""
        return bool(NEEDS_BATCHES & set(self.repair))

    @property
    def joint(self) -> str:
        """The repair that looks at several layers at once, or empty."""
        return next((name for name in self.repair if name in JOINT), "")

    def recipe(self, layer_method: str = "") -> Recipe:
        """How a layer's weight is rounded.

        Args:
            layer_method: what follows ``+`` in the layer's choice: a calibrator, a way to choose
                codes, or both with another ``+`` between; what is missing is the study's.

        Raises:
            UsageError: an unknown word (with the nearest match) or two of a kind.
        """
        where = f"method of a layer: '+{layer_method}'"
        words = layer_method.split("+") if layer_method else []
        ranges = [word for word in words if word in CALIBRATORS]
        ways = [word for word in words if word in PER_LAYER]
        for word in words:
            if word not in (*CALIBRATORS, *PER_LAYER):
                raise unknown("method", word, [*CALIBRATORS, *PER_LAYER], where=where)
        if len(ranges) > 1 or len(ways) > 1:
            raise UsageError(
                f"'{layer_method}' names two methods of a kind",
                where=where,
                expected="at most one calibrator and one way to choose codes",
            )
        own = next((name for name in self.repair if name in CODES), PLAIN)
        # Blocks are reconstructed from what their layers would choose alone.
        own = "adaround" if self.joint in ("brecq", "qdrop") else own
        return Recipe(self.weights(*ranges), ways[0] if ways else own)

    def weights(self, override: str = "") -> Calibrator:
        """Calibrator of weights; ``override`` names another one for a single layer."""
        name = override or self.weight_calibrator
        where = f"method of a layer: '+{override}'" if override else "method.weight_calibrator"
        return calibrator(name, percentile=self.percentile, where=where)

    def activations(self) -> Calibrator:
        """Calibrator of activations."""
        return calibrator(
            self.activation_calibrator,
            percentile=self.percentile,
            where="method.activation_calibrator",
        )


def _check_repairs(repairs: tuple[str, ...]) -> None:
    where = "method.repair"
    for name in repairs:
        if name == SPLIT:
            raise UsageError(
                "splitting channels makes a layer larger, which only its choice can say",
                where=where,
                fix="choose it per layer in a space, for example int4src+split/int8ut",
            )
        if name not in REPAIRS:
            raise unknown("repair", name, REPAIRS, where=where)
    for kind, rivals in (
        ("choose the codes of a weight", (*CODES, "brecq", "qdrop")),
        ("correct biases", ("bias_correction", "analytic_bias")),
    ):
        chosen = [name for name in rivals if name in repairs]
        if len(chosen) > 1:
            raise UsageError(
                f"{' and '.join(chosen)} both {kind}",
                where=where,
                expected="at most one of them",
            )
