"""How a model is quantized: everything an accuracy depends on besides the formats."""

from __future__ import annotations

from dataclasses import dataclass

from quant.calibration import Calibrator, calibrator
from quant.errors import UsageError, unknown
from quant.ptq import REPAIRS


@dataclass(frozen=True)
class Method:
    """One recipe of post-training quantization.

    Attributes:
        name: the recipe's name in records and reports.
        weight_calibrator: name of a calibrator, one range per slice of the weight.
        activation_calibrator: name of a calibrator for tensors entering a layer.
        percentile: used by the calibrator ``"percentile"``, 50 < percentile <= 100.
        fold_batch_norm: fold batch norms into the layers before them first.
        repair: names of :data:`quant.ptq.REPAIRS`, whatever their order; at most one of
            ``"gptq"`` and ``"adaround"``, which both choose the codes.

    Raises:
        UsageError: unknown calibrator or repair (with the nearest match), two repairs that
            choose the codes, or percentile out of range.
    """

    name: str = "mse"
    weight_calibrator: str = "mse"
    activation_calibrator: str = "mse"
    percentile: float = 99.9
    fold_batch_norm: bool = True
    repair: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.repair:
            if name not in REPAIRS:
                raise unknown("repair", name, REPAIRS, where="method.repair")
        if {"gptq", "adaround"} <= set(self.repair):
            raise UsageError(
                "gptq and adaround both choose the codes of a weight",
                where="method.repair",
                expected="at most one of the two",
            )
        self.weights()
        self.activations()

    @property
    def needs_moments(self) -> bool:
        """Whether a repair needs the moments of every layer's input."""
        return bool(set(self.repair) - {"equalize"})

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
