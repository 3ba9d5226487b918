"""``bitfront-measure``: latency tables of this machine for a task's layers."""

from __future__ import annotations

from hw_profiles.backends.base import Progress
from hw_profiles.hw import HwConfig
from hw_profiles.profile import Profile
from hw_profiles.store import load_or_measure
from spaces.space import SearchSpace


def measure_space(space: SearchSpace, hw: HwConfig, progress: Progress) -> tuple[Profile, float]:
    """Builds or completes the table of ``space``; returns it and the seconds spent measuring.

    Raises:
        ProfileError: a named table has gaps, is damaged, or is of another device.
    """
    profile, seconds = load_or_measure(space, hw, progress)
    if seconds == 0.0:
        progress(f"table '{profile.name}' already covers space '{space.name}'")
    return profile, seconds
