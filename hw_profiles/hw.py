"""Settings of one target device, as written in ``conf/hw/*.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from quant.errors import UsageError, unknown

AUTO, THIS, ANY = "auto", "this", "any"


@dataclass(frozen=True, slots=True)
class HwConfig:
    """One target of a search.

    Attributes:
        name: key of the target in the ``hw`` group.
        backend: folder under ``hw_profiles/backends``.
        profile: ``"auto"`` measures this machine and caches the table; else a path of a profile
            or the name of a shipped one.
        device: ``"this"`` refuses tables of other machines, ``"any"`` accepts them.
        threads: threads of the runtime.
        batch: samples per call.
        rounds: interleaved measuring rounds, at least 10.
        seed: order of the kernels within rounds, their random weights, and the policies drawn
            for the end-to-end check.
        check: ask the runtime for its conversions and measure whole policies end to end once.
    """

    name: str = "this"
    backend: str = "onnxruntime_cpu"
    profile: str = AUTO
    device: str = THIS
    threads: int = 1
    batch: int = 1
    rounds: int = 12
    seed: int = 0
    check: bool = True

    def __post_init__(self) -> None:
        self._at_least("batch", 1)
        self._at_least("rounds", 10)
        if self.threads != 1:
            raise UsageError(
                f"threads is {self.threads}",
                where=f"hw.{self.name}.threads",
                expected="1: kernel times are taken on the CPU clock of one thread",
                fix=f"set hw.{self.name}.threads=1",
            )
        if self.device not in (THIS, ANY):
            raise unknown("device", self.device, (THIS, ANY), where=f"hw.{self.name}.device")

    def _at_least(self, name: str, low: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise UsageError(
                f"{name} is {value!r}",
                where=f"hw.{self.name}.{name}",
                expected=f"a whole number of at least {low}",
            )

    @staticmethod
    def from_mapping(name: str, values: Mapping[str, Any]) -> HwConfig:
        """Reads one item of the ``hw`` group.

        Raises:
            UsageError: an unknown key or a value out of range.
        """
        known = {field.name for field in fields(HwConfig)} - {"name"}
        for key in values:
            if key not in known:
                raise unknown("setting", str(key), known, where=f"hw.{name}")
        return HwConfig(name=name, **values)
