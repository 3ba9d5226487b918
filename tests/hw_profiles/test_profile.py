"""Schema, hash, file round trip, and every way a table can be wrong."""

import hashlib
import json
import math
import re
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_profiles.profile import RESIDENT_SHARE, SCHEMA_VERSION, EntryKey, NodeEntry, load_profile
from quant.errors import ProfileError
from tests.hw_profiles.layers import DEVICE, entry, profile_of

CONV = EntryKey("conv2d", (8, 4, 3, 3), (1, 4, 6, 6), (1, 8, 6, 6), (1, 1), (1, 1), (1, 1))
LINEAR = EntryKey("linear", (4, 4), (1, 4), (1, 4), weight_format="int8sc")


def saved(tmp_path, *entries):
    path = tmp_path / "table.json"
    profile_of(entries).save(path)
    return path


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@given(
    st.floats(0, 1e6), st.floats(0, 10), st.integers(0, 99), st.booleans(), st.sampled_from([1, 8])
)
def test_a_saved_profile_reads_back_equal(
    tmp_path_factory, latency, spread, rounds, genuine, batch
):
    first = entry(replace(CONV, batch=batch), latency, spread=spread, rounds=rounds)
    second = entry(LINEAR, 0.25, genuine=genuine, kernel_ops=("QGemm",), provenance="published")
    profile = profile_of([first, second])
    path = tmp_path_factory.mktemp("profiles") / "deep" / "table.json"
    profile.save(path)
    read = load_profile(path)
    assert set(read.entries) == {first, second}
    assert (read.device, read.hash, read.threads) == (profile.device, profile.hash, 1)
    assert [item.name for item in path.parent.iterdir()] == ["table.json"]


def test_the_hash_ignores_order_and_sees_every_number():
    a, b = entry(CONV, 1.0), entry(LINEAR, 2.0)
    assert profile_of([a, b]).hash == profile_of([b, a]).hash
    assert profile_of([a, b]).hash != profile_of([a, replace(b, latency_ms=2.5)]).hash
    assert profile_of([a]).hash != profile_of([a], date="2027-01-01T00:00:00Z").hash


def test_a_table_of_the_first_version_has_no_nodes(tmp_path):
    path = saved(tmp_path, entry(CONV))
    data = json.loads(path.read_text())
    del data["nodes"], data["hash"]
    data["schema_version"] = 1
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    data["hash"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    path.write_text(json.dumps(data))
    read = load_profile(path)
    assert read.nodes == ()
    assert set(read.by_key) == {CONV}


def test_nodes_are_kept_and_checked(tmp_path):
    node = NodeEntry("abc", "Relu(float32[1])", 0.5)
    profile = profile_of([entry(CONV)], nodes=(node,))
    profile.save(tmp_path / "table.json")
    assert load_profile(tmp_path / "table.json").node_ms == {"abc": 0.5}
    assert profile.hash != profile_of([entry(CONV)]).hash
    merged = profile.merged([], "later", [NodeEntry("abc", "Relu(float32[1])", 0.25)])
    assert merged.node_ms == {"abc": 0.25}
    with pytest.raises(ProfileError, match=r"latency_ms is nan for Relu\(float32\[1\]\)"):
        profile_of([], nodes=(replace(node, latency_ms=math.nan),))


def test_merging_adds_and_replaces():
    merged = profile_of([entry(CONV, 1.0)]).merged([entry(CONV, 3.0), entry(LINEAR, 2.0)], "later")
    assert {e.key: e.latency_ms for e in merged.entries} == {CONV: 3.0, LINEAR: 2.0}
    assert merged.date == "later"


@pytest.mark.parametrize("value", [-0.5, math.nan, math.inf, "fast"])
def test_impossible_times_are_refused(value):
    with pytest.raises(ProfileError, match=f"latency_ms is {value}.*finite number, not negative"):
        _flat(lambda: profile_of([entry(latency_ms=value)]))


def _flat(call):
    """Runs ``call`` and puts its message on one line, so that one pattern covers all of it."""
    try:
        call()
    except ProfileError as error:
        raise ProfileError(" ".join(str(error).split())) from error


def test_duplicate_keys_are_refused():
    with pytest.raises(ProfileError, match=r"1 duplicate keys, the first is conv2d 8x4x3x3"):
        profile_of([entry(CONV, 1.0), entry(CONV, 2.0)])


def test_an_unknown_provenance_is_refused():
    with pytest.raises(ProfileError, match=r"'guessed'.*measured, interpolated, simulated"):
        _flat(lambda: profile_of([entry(provenance="guessed")]))


def test_a_truncated_file_is_refused(tmp_path):
    path = saved(tmp_path, entry(CONV))
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ProfileError, match=r"was edited: it is not whole JSON.*table\."):
        _flat(lambda: load_profile(path))


def test_an_edited_number_is_refused(tmp_path):
    path = saved(tmp_path, entry(CONV, 1.0))
    path.write_text(path.read_text().replace('"latency_ms": 1.0', '"latency_ms": 0.1'))
    with pytest.raises(ProfileError, match=r"its hash is .* its content gives .*bitfront-measure"):
        _flat(lambda: load_profile(path))


def test_a_newer_schema_is_refused(tmp_path):
    path = saved(tmp_path, entry(CONV))
    edit(path, schema_version=SCHEMA_VERSION + 1)
    with pytest.raises(
        ProfileError, match=rf"version {SCHEMA_VERSION + 1}.*at most {SCHEMA_VERSION}.*upgrade"
    ):
        _flat(lambda: load_profile(path))


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema_version": 1}', "3"])
def test_json_that_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / "odd.json"
    path.write_text(content)
    with pytest.raises(ProfileError, match="damaged or was edited"):
        load_profile(path)


def test_a_missing_unit_is_refused(tmp_path):
    path = saved(tmp_path, entry(CONV, 1.0))
    path.write_text(path.read_text().replace('"latency_ms"', '"latency"'))
    with pytest.raises(ProfileError, match=r"damaged.*latency"):
        load_profile(path)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(
        ProfileError, match=r"cannot be read: No such file.*bitfront-measure build"
    ):
        _flat(lambda: load_profile(tmp_path / "none.json"))


def test_another_device_is_named_with_its_difference():
    other = replace(DEVICE, name="Other CPU", cpu_flags=("avx2",))
    with pytest.raises(ProfileError) as caught:
        profile_of([]).require_device(other, where="hw.this")
    assert caught.value.exit_code == 5
    text = str(caught.value)
    assert "name 'Test CPU' against 'Other CPU'" in text
    assert "CPU flags differ in avx512_vnni" in text
    assert re.search("expected: a table of 'Other CPU'", text)


def test_cores_and_kernel_release_do_not_make_another_device():
    profile_of([]).require_device(replace(DEVICE, cores=64, os="Linux 7", l2_bytes=1))


def test_a_key_reads_as_one_line():
    key = replace(CONV, fused_with="relu", weight_format="int8sc", activation_format="int8ut")
    assert str(key) == ("conv2d+relu 8x4x3x3 on 1x4x6x6 int8sc/int8ut float32->float32 b1 t1")


@pytest.fixture
def large(tmp_path):
    keys = [replace(CONV, batch=batch) for batch in range(1, 400)]
    nodes = (NodeEntry("n1", "Conv float32", 0.5),)
    items = [entry(key, 1 / 3, rounds=3, kernel_ops=("A", "B"), energy_mj=0.1) for key in keys]
    profile = profile_of([*items, entry(LINEAR, 2)], nodes=nodes)
    path = tmp_path / "table.parquet"
    profile.save(path)
    return profile, path


def test_a_large_table_is_kept_as_parquet_with_the_same_hash(large, tmp_path):
    profile, path = large
    read = load_profile(path)
    assert (set(read.entries), read.nodes) == (set(profile.entries), profile.nodes)
    assert read.hash == profile.hash
    profile.save(tmp_path / "table.json")
    assert load_profile(tmp_path / "table.json").hash == profile.hash
    assert 10 * path.stat().st_size < (tmp_path / "table.json").stat().st_size
    assert sorted(item.name for item in tmp_path.iterdir()) == ["table.json", "table.parquet"]


def test_a_parquet_file_that_is_no_table_is_refused(large, tmp_path):
    _, path = large
    rows = pq.read_table(path)
    edited = rows.set_column(
        rows.schema.get_field_index("latency_ms"), "latency_ms", pa.array([1.0] * len(rows))
    )
    pq.write_table(edited, tmp_path / "edited.parquet")
    pq.write_table(rows.replace_schema_metadata(None), tmp_path / "foreign.parquet")
    (tmp_path / "torn.parquet").write_bytes(path.read_bytes()[:-100])
    for name, why in (
        ("edited", "its hash is"),
        ("foreign", "not written by bitfront-measure"),
        ("torn", "not whole Parquet"),
        ("none", "cannot be read"),
    ):
        with pytest.raises(ProfileError, match=why):
            load_profile(tmp_path / f"{name}.parquet")


@pytest.mark.parametrize("energy", [-1.0, math.nan, math.inf])
def test_an_impossible_energy_is_refused(energy):
    with pytest.raises(ProfileError, match="energy_mj is"):
        profile_of([entry(CONV, 1.0, energy_mj=energy)])


@pytest.mark.parametrize("resident", [-1.0, math.nan, math.inf])
def test_an_impossible_time_of_resident_weights_is_refused(resident):
    with pytest.raises(ProfileError, match="resident_ms is"):
        profile_of([entry(CONV, 1.0, resident_ms=resident)])


def test_weights_that_fit_in_the_private_cache_stay_there():
    nodes = [NodeEntry("a", "", 3.0, resident_ms=2.0), NodeEntry("b", "", 1.0)]
    entries = [entry(CONV, 4.0, resident_ms=1.5), entry(LINEAR, 5.0)]
    profile = profile_of(entries).merged((), "now", nodes)
    fits = RESIDENT_SHARE * DEVICE.l2_bytes
    assert profile.for_weights(fits + 1) is profile
    small = profile.for_weights(fits)
    assert [item.latency_ms for item in small.entries] == [1.5, 5.0]
    assert small.node_ms == {"a": 2.0, "b": 1.0}


def test_times_of_resident_weights_survive_a_file(tmp_path):
    path = saved(tmp_path, entry(CONV, 4.0, resident_ms=1.5), entry(LINEAR, 5.0))
    assert {item.resident_ms for item in load_profile(path).entries} == {1.5, None}


def test_two_tables_of_one_device_become_one_and_the_newer_entry_wins():
    older = profile_of([entry(CONV, 1.0), entry(LINEAR, 5.0)])
    newer = profile_of([entry(LINEAR, 7.0)], date="2027-01-01T00:00:00Z")
    joined = older.joined(newer)
    assert {e.key: e.latency_ms for e in joined.entries} == {CONV: 1.0, LINEAR: 7.0}
    assert joined.date == newer.date


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runtime_version": "2.0"}, "runtime_version '1.0' against '2.0'"),
        ({"threads": 2}, "threads '1' against '2'"),
        ({"device": replace(DEVICE, name="Other")}, "name 'Test CPU' against 'Other'"),
    ],
)
def test_tables_of_different_devices_are_not_joined(change, message):
    with pytest.raises(ProfileError, match=message):
        profile_of([entry(CONV)]).joined(profile_of([entry(LINEAR)], **change))
