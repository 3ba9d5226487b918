"""Which machine this is: enough to tell two latency tables apart, nothing that names a person."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KERNEL_FLAGS = (
    "sse4_1",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)
"""CPU flags that decide which matrix kernels a runtime takes; all others are left out."""

DEFAULT_L2_BYTES = 2 << 20
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True, slots=True)
class Device:
    """A machine as far as the speed of its kernels goes.

    Attributes:
        name: CPU or GPU model as it calls itself.
        arch: instruction set, for example ``"x86_64"``.
        cpu_flags: the flags of :data:`KERNEL_FLAGS` this CPU has.
        cores: logical cores visible to this process's machine.
        l2_bytes: level-2 cache of one core, bytes.
        os: operating system and kernel release, without the machine's name.
        clock_mhz: greatest clock where the system tells it, else the clock it ran at when asked,
            MHz; 0 when neither is known.
    """

    name: str
    arch: str
    cpu_flags: tuple[str, ...]
    cores: int
    l2_bytes: int
    os: str
    clock_mhz: float = 0.0

    def differences(self, other: Device) -> list[str]:
        """What makes kernel times of the two incomparable; empty for the same device.

        Cores, clock and operating system do not count: tables are single-threaded, and a clock
        read twice is two numbers. The reference kernel shows what a clock did.
        """
        found = []
        for field in ("name", "arch"):
            mine, theirs = getattr(self, field), getattr(other, field)
            if mine != theirs:
                found.append(f"{field} '{mine}' against '{theirs}'")
        odd = sorted(set(self.cpu_flags) ^ set(other.cpu_flags))
        if odd:
            found.append(f"CPU flags differ in {', '.join(odd)}")
        return found


def this_device() -> Device:
    """Describes the machine this process runs on."""
    info = _cpuinfo(Path("/proc/cpuinfo"))
    present = set((info.get("flags") or info.get("Features") or "").split())
    return Device(
        name=info.get("model name") or platform.processor() or platform.machine(),
        arch=platform.machine(),
        cpu_flags=tuple(flag for flag in KERNEL_FLAGS if flag in present),
        cores=os.cpu_count() or 1,
        l2_bytes=_l2_bytes(Path("/sys/devices/system/cpu/cpu0/cache")),
        os=f"{platform.system()} {platform.release()}",
        clock_mhz=_clock_mhz(Path("/sys/devices/system/cpu/cpu0/cpufreq"), info),
    )


def _cpuinfo(path: Path) -> dict[str, str]:
    try:
        first = path.read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _clock_mhz(cpufreq: Path, info: Mapping[str, str]) -> float:
    try:
        return int((cpufreq / "cpuinfo_max_freq").read_text()) / 1e3
    except (OSError, ValueError):
        pass
    try:
        return float(info.get("cpu MHz", ""))
    except ValueError:
        return 0.0


def _l2_bytes(caches: Path) -> int:
    for index in sorted(caches.glob("index*")):
        try:
            if (index / "level").read_text().strip() == "2":
                return _size((index / "size").read_text().strip())
        except OSError:
            continue
    return DEFAULT_L2_BYTES


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMG]?)", text)
    return int(match[1]) * _UNITS[match[2]] if match else DEFAULT_L2_BYTES
