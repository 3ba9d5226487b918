"""Uniform policies: what every search is compared with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spaces.choices import BASELINES, Choice
from spaces.space import SearchSpace

Codes = npt.NDArray[np.int64]


def uniform_policies(space: SearchSpace) -> list[tuple[str, Codes]]:
    """Tagged codes ``int[groups]`` of the uniform policies, without repetition.

    First every layer float32 (``fp32``), then every layer 8 bit (``w8a8``), then each searchable
    choice wherever it is offered; groups that do not offer it keep 8 bit where they can and
    their first choice otherwise.
    """
    float_choice, int8 = BASELINES
    wanted = [float_choice, int8]
    wanted += [choice for group in space.groups if not group.is_fixed for choice in group.choices]
    found: list[tuple[str, Codes]] = []
    tags: set[str] = set()
    seen: set[bytes] = set()
    for choice in dict.fromkeys(wanted):
        codes = _uniform(space, choice, int8, anywhere=choice in BASELINES)
        if codes.tobytes() not in seen:
            seen.add(codes.tobytes())
            tag = choice.label if choice.label not in tags else choice.text
            tags.add(tag)
            found.append((tag, codes))
    return found


def float_codes(space: SearchSpace) -> Codes:
    """Codes of the float32 model."""
    return _uniform(space, BASELINES[0], BASELINES[1], anywhere=True)


def _uniform(space: SearchSpace, choice: Choice, fallback: Choice, *, anywhere: bool) -> Codes:
    codes = np.zeros(len(space.groups), dtype=np.int64)
    for index, group in enumerate(space.groups):
        reach = group.all_choices if anywhere else group.choices
        for candidate in (choice, fallback):
            if candidate in reach:
                codes[index] = reach.index(candidate)
                break
    return codes
