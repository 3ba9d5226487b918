"""Cached and named tables: what is measured, merged, refused."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hw_profiles import store
from hw_profiles.backends import backend_names, load_backend
from hw_profiles.backends.base import Measured
from hw_profiles.device import this_device
from hw_profiles.hw import HwConfig
from hw_profiles.keys import required_keys
from hw_profiles.profile import NodeEntry, load_profile
from hw_profiles.store import (
    alone,
    cache_dir,
    cached_path,
    keep,
    load_or_measure,
    with_cached_nodes,
)
from quant.errors import ProfileError, UsageError
from tests.hw_profiles.layers import DEVICE, conv, entry, linear, profile_of, space_of

HW = HwConfig(rounds=10)
BACKEND = load_backend(HW)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BITFRONT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_measuring(monkeypatch):
    """Replaces timing by a constant and records what would have been measured."""
    asked = []

    def measure(_self, keys, _progress):
        asked.append(list(keys))
        return Measured(tuple(entry(key, 1.0) for key in keys))

    monkeypatch.setattr(type(BACKEND), "measure", measure)
    return asked


def test_only_missing_entries_are_measured_and_kept(cache, no_measuring):
    small, lines = space_of([conv("a")]), []
    large = space_of([conv("a"), linear("fc", 1)])
    load_or_measure(small, HW, lines.append, DEVICE)
    profile, seconds = load_or_measure(large, HW, lines.append, DEVICE)
    again, none = load_or_measure(large, HW, lines.append, DEVICE)
    first, second = no_measuring
    assert first == required_keys(small, BACKEND)
    assert first + second == required_keys(large, BACKEND)
    assert seconds > 0
    assert none == 0.0
    assert again.hash == profile.hash
    assert lines[0].startswith("measuring 4 kernels of space 'tiny' on Test CPU")
    assert len(lines) == 2, "a warm cache says nothing"


def test_of_two_at_once_one_measures_and_the_other_finds_the_table(cache, no_measuring):
    space, lines = space_of([conv("a")]), []
    waits = threading.Thread(target=load_or_measure, args=(space, HW, lines.append, DEVICE))
    with alone(cache, str):
        waits.start()
        while not lines and waits.is_alive():
            time.sleep(0.01)
        found = profile_of([entry(key, 1.0) for key in required_keys(space, BACKEND)])
        found.save(cached_path(BACKEND, DEVICE, HW))
    waits.join()
    assert lines == ["another process measures on this machine; waiting for it to end"]
    assert no_measuring == []


def test_nodes_of_two_networks_are_kept_whoever_ends_last(cache):
    one, other = (profile_of([], nodes=(NodeEntry(name, "Conv", 1.0),)) for name in "ab")
    keep(one, BACKEND, HW)
    keep(other, BACKEND, HW)
    assert {node.id for node in with_cached_nodes(one, BACKEND, HW).nodes} == {"a", "b"}


def test_another_device_gets_its_own_file(cache, no_measuring):
    space = space_of([conv("a")])
    load_or_measure(space, HW, str, DEVICE)
    load_or_measure(space, HW, str, replace(DEVICE, cpu_flags=("avx2",)))
    assert len(list((cache / "profiles").iterdir())) == 2


def test_a_cached_file_of_another_device_is_refused(cache):
    path = cached_path(BACKEND, DEVICE, HW)
    profile_of([], device=replace(DEVICE, name="Other")).save(path)
    with pytest.raises(ProfileError, match="another device: name 'Other' against 'Test CPU'"):
        load_or_measure(space_of([conv("a")]), HW, str, DEVICE)


def test_a_named_table_is_used_as_it_is(tmp_path):
    space, path = space_of([conv("a")]), tmp_path / "mine.json"
    profile_of([entry(key) for key in required_keys(space, BACKEND)]).save(path)
    hw = replace(HW, profile=str(path))
    profile, seconds = load_or_measure(space, hw, str, DEVICE)
    assert (profile.name, seconds) == ("test", 0.0)
    with pytest.raises(ProfileError, match="another device"):
        load_or_measure(space, hw, str, replace(DEVICE, name="Other"))
    load_or_measure(space, replace(hw, device="any"), str, replace(DEVICE, name="Other"))


def test_a_named_table_with_gaps_is_refused(tmp_path):
    path = tmp_path / "mine.json"
    profile_of([]).save(path)
    with pytest.raises(ProfileError, match="lacks 4 entries of space 'tiny'"):
        load_or_measure(space_of([conv("a")]), replace(HW, profile=str(path)), str, DEVICE)


def test_an_unknown_table_name_says_what_there_is(monkeypatch, tmp_path):
    profile_of([]).save(tmp_path / "box_ort.json")
    monkeypatch.setattr(store, "DATA", tmp_path)
    with pytest.raises(ProfileError) as caught:
        load_or_measure(space_of([conv("a")]), replace(HW, profile="box_ont"), str, DEVICE)
    text = str(caught.value)
    assert "'box_ont' does not exist" in text
    assert "did you mean 'box_ort'?" in text


def test_the_cache_directory_follows_the_environment():
    assert cache_dir({"BITFRONT_CACHE": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert cache_dir({"XDG_CACHE_HOME": "/b"}) == Path("/b/bitfront")
    assert cache_dir({}) == Path.home() / ".cache" / "bitfront"


def test_measuring_for_real_writes_a_table_that_reads_back(cache):
    space = space_of([conv("a", cin=8, cout=8), linear("fc", 1, cin=128, cout=256)])
    profile, seconds = load_or_measure(space, HW, str)
    assert seconds > 0
    (path,) = (cache / "profiles").iterdir()
    read = load_profile(path)
    assert read.hash == profile.hash
    assert set(read.by_key) == set(required_keys(space, BACKEND))
    for item in read.entries:
        assert item.latency_ms > 0
        assert item.reference_ms > 0
        assert item.rounds == 10
        assert item.kernel_ops
        assert item.genuine
        assert item.provenance == "measured"
    statistics = {item.key.op: item.statistic for item in read.entries}
    assert statistics["linear"] == "median", "one row streams its weights"
    assert {node.id for node in read.nodes} == set(read.node_ms)
    assert all(node.latency_ms > 0 for node in read.nodes)
    assert statistics["conv2d"] == "p20"
    lines = []
    again, seconds = load_or_measure(space, HW, lines.append)
    assert (again.hash, seconds, lines) == (profile.hash, 0.0, [])


def test_this_device_names_no_person_and_no_host():
    device = this_device()
    text = json.dumps([device.name, device.arch, device.cpu_flags, device.os])
    import getpass
    import platform

    assert platform.node() not in text
    assert f'"{getpass.getuser()}"' not in text
    assert device.cores >= 1
    assert device.l2_bytes >= 1 << 10
    assert not device.differences(this_device())


def test_hw_settings_are_checked():
    assert HwConfig.from_mapping("this", {"rounds": 20}).rounds == 20
    for values, message in [
        ({"rouds": 20}, "unknown setting 'rouds'(.|\n)*did you mean 'rounds'"),
        ({"rounds": 3}, "rounds is 3(.|\n)*at least 10"),
        ({"batch": 0}, "batch is 0"),
        ({"batch": "two"}, "batch is 'two'"),
        ({"threads": 4}, "threads is 4(.|\n)*CPU clock of one thread"),
        ({"device": "that"}, "unknown device 'that'"),
    ]:
        with pytest.raises(UsageError, match=message):
            HwConfig.from_mapping("this", values)


def test_an_unknown_backend_is_named_with_the_known_ones():
    assert "onnxruntime_cpu" in backend_names()
    with pytest.raises(UsageError, match=r"unknown backend 'onnxruntime'(.|\n)*onnxruntime_cpu"):
        load_backend(HwConfig(backend="onnxruntime"))


def test_every_shipped_device_file_is_a_valid_setting():
    folder = Path(store.__file__).parents[1] / "conf" / "hw"
    files = sorted(folder.glob("*.yaml"))
    assert files
    for path in files:
        content = yaml.safe_load(path.read_text())
        assert list(content) == [path.stem], "each file writes its own key"
        hw = HwConfig.from_mapping(path.stem, content[path.stem])
        try:
            assert load_backend(hw).name == hw.backend
        except UsageError as error:
            # What is not on this machine is refused with a way out, never half-built.
            assert hw.backend in ("torch_cuda", "openvino_cpu"), error
            assert error.fix


@pytest.mark.parametrize("name", sorted(store.shipped_profiles()))
def test_every_shipped_table_loads(name):
    assert load_profile(store.shipped_profiles()[name]).entries


def test_shipped_tables_are_whole_and_named():
    found = store.shipped_profiles()
    assert found, "a table measured on a real machine comes with bitfront"
    for name, path in found.items():
        profile = load_profile(path)
        assert profile.name == name
        assert profile.entries
        assert profile.nodes
        assert {entry.provenance for entry in profile.entries} == {"measured"}
        assert all(entry.rounds >= 10 and entry.reference_ms > 0 for entry in profile.entries)
