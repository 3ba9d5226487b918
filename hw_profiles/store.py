"""Where tables live: the user's cache, the shipped ones, and measuring what is missing."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from hw_profiles.backends import load_backend
from hw_profiles.backends.base import Backend, Progress
from hw_profiles.backends.throughput import Throughput
from hw_profiles.device import Device
from hw_profiles.hw import AUTO, THIS, HwConfig
from hw_profiles.keys import missing_keys, required_keys
from hw_profiles.profile import Profile, load_profile
from hw_profiles.table_cost import require_coverage
from quant.errors import ProfileError, nearest
from spaces.space import SearchSpace

DATA = Path(__file__).parent / "data"


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """``$BITFRONT_CACHE``, else ``$XDG_CACHE_HOME/bitfront``, else ``~/.cache/bitfront``."""
    if environ.get("BITFRONT_CACHE"):
        return Path(environ["BITFRONT_CACHE"])
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "bitfront"


@contextmanager
def alone(folder: Path, busy: Callable[[], object]) -> Iterator[None]:
    """One process of a user at a time fills a folder of the cache; others wait, then find it full.

    Two that measure at once would time each other's load, and two that train do the work twice.

    Args:
        folder: of the cache; made when missing.
        busy: called once when this process has to wait.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def measuring(progress: Progress) -> Iterator[None]:
    """One process of a user measures at a time, see :func:`alone`."""
    wait = "another process measures on this machine; waiting for it to end"
    with alone(cache_dir(), lambda: progress(wait)):
        yield


def load_or_measure(
    space: SearchSpace, hw: HwConfig, progress: Progress, device: Device | None = None
) -> tuple[Profile, float]:
    """A profile that covers ``space``, and the seconds spent measuring (0 when none were needed).

    With ``profile: auto`` only the missing entries are measured; they are merged into the cached
    table of this device and saved atomically.

    Raises:
        ProfileError: a named table is missing, damaged, of another device, or has gaps.
    """
    backend = load_backend(hw)
    device = device or backend.device
    if isinstance(backend, Throughput):
        return published_profile(space, backend, hw), 0.0
    if hw.profile != AUTO:
        profile = _named_profile(hw, device)
        require_coverage(space, profile, backend, hw.batch)
        return profile, 0.0
    path = cached_path(backend, device, hw)
    profile = _cached_profile(path, backend, device, hw)
    missing = missing_keys(space, profile, backend, hw.batch, hw.threads)
    if not missing:
        return profile, 0.0
    with measuring(progress):
        # Read again: another process may have measured them meanwhile.
        profile = _cached_profile(path, backend, device, hw)
        missing = missing_keys(space, profile, backend, hw.batch, hw.threads)
        if not missing:
            return profile, 0.0
        progress(
            f"measuring {len(missing)} kernels of space '{space.name}' on {device.name} "
            f"({backend.name} {backend.version}); the table is kept in the cache"
        )
        start = time.perf_counter()
        measured = backend.measure(missing, progress)
        profile = profile.merged(measured.entries, now(), measured.nodes)
        profile.save(path)
        return profile, time.perf_counter() - start


def with_cached_nodes(profile: Profile, backend: Backend, hw: HwConfig) -> Profile:
    """A table of this device with the node times that its cached table has by now."""
    cached = _cached_profile(cached_path(backend, profile.device, hw), backend, profile.device, hw)
    return profile.merged((), profile.date, cached.nodes)


def keep(profile: Profile, backend: Backend, hw: HwConfig) -> None:
    """Adds entries and nodes of a table to the cached one of its device."""
    path = cached_path(backend, profile.device, hw)
    cached = _cached_profile(path, backend, profile.device, hw)
    cached.merged(profile.entries, profile.date, profile.nodes).save(path)


def device_mark(device: Device) -> str:
    """Eight hex digits that tell devices with other kernels apart."""
    kernels = f"{device.name}|{device.arch}|{','.join(device.cpu_flags)}"
    return hashlib.sha256(kernels.encode()).hexdigest()[:8]


def published_profile(space: SearchSpace, backend: Throughput, hw: HwConfig) -> Profile:
    """The table of a device that is known by published rates; computed, never cached."""
    keys = required_keys(space, backend, hw.batch, hw.threads)
    return Profile(
        device=backend.device,
        runtime=backend.name,
        runtime_version=backend.version,
        threads=hw.threads,
        date="",
        entries=backend.measure(keys, _quiet).entries,
        protocol=backend.protocol,
        name=hw.name,
    )


def cached_path(backend: Backend, device: Device, hw: HwConfig) -> Path:
    """File of the table of one device, runtime version, thread count and way of measuring."""
    mark = device_mark(device)
    slug = re.sub(r"[^a-z0-9]+", "-", device.name.lower()).strip("-")[:40]
    revision = f"-r{backend.protocol['revision']}" if "revision" in backend.protocol else ""
    name = f"{backend.name}-{backend.version}-{slug}-{mark}-t{hw.threads}{revision}.json"
    return cache_dir() / "profiles" / name


def shipped_profiles() -> dict[str, Path]:
    """Tables that come with bitfront, by name."""
    return {path.stem: path for path in sorted(DATA.glob("*.json"))}


def _cached_profile(path: Path, backend: Backend, device: Device, hw: HwConfig) -> Profile:
    if path.exists():
        profile = load_profile(path)
        profile.require_device(device, where=path.name)
        return profile
    return Profile(
        device=device,
        runtime=backend.name,
        runtime_version=backend.version,
        threads=hw.threads,
        date=now(),
        protocol=backend.protocol,
        name=hw.name,
    )


def _named_profile(hw: HwConfig, device: Device) -> Profile:
    """A shipped table by name, or a file by path."""
    shipped = shipped_profiles()
    path = shipped.get(hw.profile) or Path(hw.profile)
    if not path.exists():
        raise ProfileError(
            f"latency table '{hw.profile}' does not exist",
            where=f"hw.{hw.name}.profile",
            expected=f"auto, a path, or one of: {', '.join(shipped) or 'none shipped'}",
            fix=nearest(hw.profile, [*shipped, AUTO])
            or "set profile: auto to measure this machine",
        )
    profile = load_profile(path)
    if hw.device == THIS:
        profile.require_device(device, where=f"hw.{hw.name}.profile")
    return profile


def now() -> str:
    """Current time in UTC, ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _quiet(line: str) -> None:
    """Computing rates has nothing to tell."""
