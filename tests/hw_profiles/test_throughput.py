"""Published devices: rates in closed form, honest provenance, and what cannot run."""

import json

import numpy as np
import pytest

from hw_profiles.backends import load_backend
from hw_profiles.backends.throughput import DATA, read_device
from hw_profiles.hw import HwConfig
from hw_profiles.store import load_or_measure
from hw_profiles.table_cost import build_cost_model
from quant.errors import ProfileError, UsageError
from spaces.choices import FLOAT_CHOICE, parse_choice
from tests.hw_profiles.layers import conv, linear, space_of
from tests.support.shared_data import shared_data

DEVICES = sorted(path.stem for path in DATA.glob("*.json"))


def hw(profile):
    return HwConfig(name=profile, backend="throughput", profile=profile, device="any", check=False)


@pytest.mark.parametrize("name", DEVICES)
def test_every_shipped_device_says_where_its_numbers_are_from(name):
    backend = load_backend(hw(name))
    assert backend.source
    assert backend.note
    assert backend.provenance in ("published", "simulated")
    assert (32, 32) in backend.macs_per_ms, "the float baseline needs a cost"
    space = space_of([conv("a"), linear("fc", 1)], ("int8sc/int8ut", "float32"))
    profile, seconds = load_or_measure(space, hw(name), str)
    assert seconds == 0.0
    assert {entry.provenance for entry in profile.entries} <= {"published", "simulated"}
    costs = build_cost_model(space, profile, backend).costs(np.array([[0, 0], [1, 1]]))
    assert costs["latency_ms"][0] < costs["latency_ms"][1], "8 bit is faster than float"


def test_latency_is_macs_over_rate():
    space = space_of([conv("a", cin=4, cout=8, size=6)], ("int4sc/int8ut", "int8sc/int8ut"))
    profile, _ = load_or_measure(space, hw("mpic"), str)
    latency = build_cost_model(space, profile, load_backend(hw("mpic"))).table("latency_ms")
    macs = 8 * 4 * 9 * 36
    assert latency[0, 0] == pytest.approx(macs / 2.3 / 100e3)
    assert latency[0, 1] == pytest.approx(macs / 2.1 / 100e3)


def test_widths_in_between_run_as_the_next_wider_pair():
    backend, layer = load_backend(hw("mpic")), conv()
    taken = backend.runs_as(layer, parse_choice("int3sc/int5ut"))
    assert (taken.weight.bits, taken.activation.bits) == (4, 8)
    assert "w4a8" in backend.supports(layer, parse_choice("int3sc/int5ut"))
    assert backend.supports(layer, parse_choice("int4sc/int8ut")) is None
    assert backend.runs_as(layer, parse_choice("float16/float16")) == FLOAT_CHOICE


def test_a_faster_wider_pair_is_never_passed_over():
    rates = [{"w": 4, "a": 8, "macs_per_cycle": 1}, {"w": 8, "a": 8, "macs_per_cycle": 3}]
    backend = read_device(device(rates=rates), "x")
    taken = backend.runs_as(conv(), parse_choice("int2sc/int8ut"))
    assert taken.weight.bits == 8


def device(**changes):
    rates = [{"w": 8, "a": 8, "macs_per_cycle": 2.0}]
    base = {"schema_version": 1, "title": "T", "source": "S", "provenance": "published",
            "clock_mhz": 1, "rates": rates}  # fmt: skip
    return {**base, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 9}, "schema version 9"),
        ({"provenance": "guessed"}, "provenance 'guessed' is unknown"),
        ({"rates": [{"w": 8, "a": 8, "macs_per_cycle": 0}]}, "macs_per_cycle is 0.0 for w8a8"),
    ],
)
def test_impossible_device_files_are_refused(changes, message):
    with pytest.raises(ProfileError, match=message):
        read_device(device(**changes), "x.json")


def test_an_unknown_device_names_the_nearest():
    with pytest.raises(ProfileError, match=r"(?s)no published device 'mpik'.*did you mean 'mpic'"):
        load_backend(hw("mpik"))


def test_nothing_can_be_run_on_a_device_that_is_not_here():
    with pytest.raises(UsageError, match="is not here"):
        load_backend(hw("t4")).network(None, [], None)


def test_shipped_mpic_rates_are_the_published_ones():
    path = shared_data("mpic") / "mpic_macs_per_cycle.csv"
    rows = [line.split(",") for line in path.read_text().split()[1:]]
    rates = json.loads((DATA / "mpic.json").read_text())["rates"]
    ours = {(r["a"], r["w"]): r["macs_per_cycle"] for r in rates if r["w"] != 32}
    assert ours == {(int(a), int(w)): float(value) for a, w, value in rows}
