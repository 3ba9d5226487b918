"""Small layers and spaces, by hand, for the tests of costs and tables."""

from __future__ import annotations

import math

from hw_profiles.device import Device
from hw_profiles.profile import Entry, EntryKey, Profile
from spaces.choices import parse_choice
from spaces.layers import LayerSpec
from spaces.space import Group, SearchSpace

DEVICE = Device("Test CPU", "x86_64", ("avx2", "avx512_vnni"), 2, 1 << 20, "Linux 6")


def conv(
    name="conv", index=0, cin=4, cout=8, size=6, kernel=3, groups=1, producers=("@input",),
    op="conv2d", relu=True, bias=True,
):  # fmt: skip
    axes = {"1": 1, "2": 2, "3": 3}[op[-2]]
    weight = (cout, cin // groups) + (kernel,) * axes
    positions = size**axes
    return LayerSpec(
        name, op, index, weight, (1, cin) + (size,) * axes, (1, cout) + (size,) * axes,
        (1,) * axes, (kernel // 2,) * axes, (1,) * axes, groups, bias,
        math.prod(weight) + cout * bias, math.prod(weight) * positions,
        tuple(producers), "relu" if relu else "", True,
    )  # fmt: skip


def linear(name="fc", index=0, cin=32, cout=16, rows=1, producers=("@float",), relu=False):
    return LayerSpec(
        name, "linear", index, (cout, cin), (rows, cin), (rows, cout), (), (), (), 1, True,
        cin * cout + cout, cin * cout * rows, tuple(producers), "relu" if relu else "",
    )  # fmt: skip


def space_of(layers, choices=("int8sc/int8ut", "float32"), extra=(), ties=()):
    """One group per layer, except for the layers named together in ``ties``."""
    tied = {name: tie for tie in ties for name in tie}
    groups = []
    for layer in layers:
        members = tied.get(layer.name, (layer.name,))
        if members[0] == layer.name:
            taken = tuple(map(parse_choice, choices))
            groups.append(
                Group(layer.name, tuple(members), taken, tuple(map(parse_choice, extra)))
            )
    return SearchSpace("tiny", tuple(layers), tuple(groups))


def profile_of(entries, **changes):
    fields = {
        "device": DEVICE,
        "runtime": "onnxruntime_cpu",
        "runtime_version": "1.0",
        "threads": 1,
        "date": "2026-01-01T00:00:00Z",
        "entries": tuple(entries),
        "protocol": {"rounds": 12},
        "name": "test",
    }
    return Profile(**{**fields, **changes})


def entry(key=None, latency_ms=1.0, **changes):
    key = key or EntryKey("linear", (4, 4), (1, 4), (1, 4))
    return Entry(key, latency_ms, **changes)
