"""How a model is quantized: everything an accuracy depends on besides the formats."""

from __future__ import annotations

from dataclasses import dataclass

from quant.calibration import Calibrator, calibrator


@dataclass(frozen=True)
class Method:
    """One recipe of post-training quantization.

    Attributes:
        name: the recipe's name in records and reports.
        weight_calibrator: name of a calibrator, one range per slice of the weight.
        activation_calibrator: name of a calibrator for tensors entering a layer.
        percentile: used by the calibrator ``"percentile"``, 50 < percentile <= 100.
        fold_batch_norm: fold batch norms into the layers before them first.

    Raises:
        UsageError: unknown calibrator (with the nearest match) or percentile out of range.
    """

    name: str = "mse"
    weight_calibrator: str = "mse"
    activation_calibrator: str = "mse"
    percentile: float = 99.9
    fold_batch_norm: bool = True

    def __post_init__(self) -> None:
        self.weights()
        self.activations()

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
