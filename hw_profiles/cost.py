"""Cost models: what every choice of every group costs, and what a whole policy costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


class CostModel(Protocol):
    """Costs of a search space on one device.

    Group ``g`` has ``len(group.all_choices)`` choices, searchable ones first and baseline-only
    ones after them; tables are padded with NaN to the widest group.
    """

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names with units, for example ``("size_bytes", "bops", "latency_ms")``."""
        ...

    def table(self, metric: str) -> Floats:
        """Additive cost of each choice, ``float[groups, max choices]``, NaN-padded."""
        ...

    def costs(self, codes: Codes) -> dict[str, Floats]:
        """Costs of policies ``int[P, groups]`` as ``{metric: float[P]}``, edge terms included."""
        ...

    def provenance(self) -> Mapping[str, Any]:
        """Where each metric comes from: ``{metric: {"kind": "measured", ...}}``, profile hash."""
        ...
