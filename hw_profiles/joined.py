"""Costs of one space on several devices at once.

The first device's costs keep their names; what depends on a device is added for each other one as
``latency_ms@<device>``. Size and bit operations are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hw_profiles.cost import Codes, CostModel, Floats

DEVICE_METRICS = ("latency_ms", "energy_mj")


class JoinedCosts:
    """See :class:`hw_profiles.cost.CostModel`.

    Args:
        models: cost model by device name, the main device first.
    """

    def __init__(self, models: Mapping[str, CostModel]) -> None:
        (self._main, *others) = models
        self._models = dict(models)
        self._places = {metric: (self._main, metric) for metric in models[self._main].metrics}
        for device in others:
            for metric in models[device].metrics:
                if metric in DEVICE_METRICS:
                    self._places[f"{metric}@{device}"] = (device, metric)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Costs of the main device, then ``metric@device`` of the others."""
        return tuple(self._places)

    def table(self, metric: str) -> Floats:
        """See :meth:`hw_profiles.cost.CostModel.table`."""
        device, name = self._places[metric]
        return self._models[device].table(name)

    def costs(self, codes: Codes) -> dict[str, Floats]:
        """See :meth:`hw_profiles.cost.CostModel.costs`."""
        found = {device: model.costs(codes) for device, model in self._models.items()}
        return {metric: found[device][name] for metric, (device, name) in self._places.items()}

    def provenance(self) -> Mapping[str, Any]:
        """The main device's provenance with one entry more per added metric."""
        result = dict(self._models[self._main].provenance())
        for metric, (device, name) in self._places.items():
            if device != self._main:
                result[metric] = self._models[device].provenance()[name]
        return result
