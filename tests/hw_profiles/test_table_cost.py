"""The additive model on synthetic tables: closed form, then the loop it replaces, then gaps."""

from dataclasses import replace

import numpy as np
import pytest

from hw_profiles.backends.onnxruntime_cpu import OnnxRuntimeCpu
from hw_profiles.footprint import bops, size_bytes
from hw_profiles.keys import (
    dequantize_key,
    layer_key,
    missing_keys,
    quantize_key,
    required_keys,
)
from hw_profiles.table_cost import build_cost_model
from hw_profiles.timing import Protocol
from quant.errors import ProfileError
from spaces.choices import parse_choice
from tests.hw_profiles.layers import conv, entry, linear, profile_of, space_of

BACKEND = OnnxRuntimeCpu(Protocol())
INT8, FLOAT = 0, 1


def table_for(space, latency=lambda key: 1.0, skip=()):
    keys = [key for key in required_keys(space, BACKEND) if key not in skip]
    return profile_of([entry(key, latency(key)) for key in keys])


def simple_latency(key):
    """Kernels: 10 ms float, 1 ms integer; conversions: 0.1 and 0.01 ms."""
    if key.op in ("quantize", "dequantize"):
        return 0.1 if key.op == "quantize" else 0.01
    return 10.0 if key.weight_format == "float32" else 1.0


def chain():
    return space_of(
        [
            conv("a", 0, 4, 8),
            conv("b", 1, 8, 8, producers=("a",)),
            conv("c", 2, 8, 8, producers=("b",)),
        ]
    )


def latency_of(space, codes, **table):
    model = build_cost_model(space, table_for(space, simple_latency, **table), BACKEND)
    return model.costs(np.array([codes]))["latency_ms"][0]


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([FLOAT, FLOAT, FLOAT], 30.0),
        ([INT8, INT8, INT8], 3.0 + 0.1 + 0.01),
        ([INT8, FLOAT, INT8], 12.0 + 2 * 0.1 + 2 * 0.01),
        ([FLOAT, INT8, FLOAT], 21.0 + 0.1 + 0.01),
        ([FLOAT, INT8, INT8], 12.0 + 0.1 + 0.01),
    ],
)
def test_a_chain_pays_one_conversion_where_formats_meet(codes, expected):
    assert latency_of(chain(), codes) == pytest.approx(expected)


def branch(second_reads):
    return space_of(
        [
            conv("a", 0, 4, 8),
            conv("b", 1, 8, 8, producers=("a",)),
            conv("c", 2, 8, 8, producers=(second_reads,)),
        ]
    )


def test_two_readers_of_one_tensor_share_a_quantize():
    # a float; b and c integer read a's output: one quantize; both outputs leave in float.
    assert latency_of(branch("a"), [FLOAT, INT8, INT8]) == pytest.approx(12.0 + 0.1 + 2 * 0.01)


def test_readers_of_unknown_float_tensors_do_not_share():
    # c reads some float tensor: a pays a quantize for b, c pays its own.
    assert latency_of(branch("@float"), [FLOAT, INT8, INT8]) == pytest.approx(
        12.0 + 2 * 0.1 + 2 * 0.01
    )


def test_one_float_reader_makes_the_producer_dequantize_once():
    # a integer: quantize at the input; b takes integers, c does not: a dequantizes once.
    expected = (1.0 + 1.0 + 10.0) + 0.1 + 0.01 + 0.01
    assert latency_of(branch("a"), [INT8, INT8, FLOAT]) == pytest.approx(expected)


def test_a_tensor_with_one_float_producer_is_quantized_whole():
    layers = [
        conv("a", 0, 4, 8),
        conv("b", 1, 4, 8),
        conv("c", 2, 8, 8, producers=("a", "b")),
    ]
    # a integer (0.1 in, 0.01 out, because c's input is joined in float), b float, c integer.
    expected = (1.0 + 10.0 + 1.0) + (0.1 + 0.01) + (0.1 + 0.01)
    assert latency_of(space_of(layers), [INT8, FLOAT, INT8]) == pytest.approx(expected)
    # all integer: one shared quantize at the input, one dequantize at the end.
    assert latency_of(space_of(layers), [INT8, INT8, INT8]) == pytest.approx(3.0 + 0.1 + 0.01)


def slow_edges(space, profile, codes):
    """The definition of the edge terms, one policy at a time."""
    edges = {
        name: BACKEND.edges(layer, BACKEND.runs_as(layer, group.all_choices[code]))
        for group, code in zip(space.groups, codes, strict=True)
        for name, layer in ((name, space.layer_named[name]) for name in group.layers)
    }
    wants = {name for name, (entering, _) in edges.items() if entering == "uint8"}
    gives = {name for name, (_, leaving) in edges.items() if leaving == "uint8"}
    taken = {
        layer.name
        for layer in space.layers
        if layer.name in wants and layer.producers and set(layer.producers) <= gives
    }
    quantized, total = set(), 0.0
    for layer in space.layers:
        if layer.name not in wants:
            continue
        if layer.name not in taken:
            tensor = (layer.producers, layer.input_shape)
            if "@float" in layer.producers or tensor not in quantized:
                total += profile.by_key[quantize_key(layer.input_shape, "uint8")].latency_ms
                quantized.add(tensor)
        if layer.name not in gives:
            continue
        readers = [other for other in space.layers if layer.name in other.producers]
        if not readers or any(reader.name not in taken for reader in readers):
            total += profile.by_key[dequantize_key(layer.output_shape, "uint8")].latency_ms
    return total


@pytest.mark.parametrize("seed", range(20))
def test_vectorised_costs_equal_the_definition_on_random_graphs(seed):
    rng = np.random.default_rng(seed)
    layers, names = [], []
    for i in range(8):
        sources = ["@input", "@float", *names]
        width = int(rng.integers(1, min(3, len(sources)) + 1))
        producers = tuple(rng.choice(sources, width, replace=False).tolist())
        made = conv(f"l{i}", i, 4, 4, size=int(rng.integers(3, 6)), producers=producers)
        layers.append(made if i % 4 else linear(f"l{i}", i, 4, 4, 5, producers=producers))
        names.append(f"l{i}")
    texts = ("int4sc/int8ut", "float32", "int8sc/int8ut", "int4sc")
    space = space_of(layers, texts, ties=[("l1", "l4")])
    profile = table_for(space, lambda key: float(rng.uniform(0.5, 2.0)))
    model = build_cost_model(space, profile, BACKEND)
    codes = space.sample(rng, 40)
    got = model.costs(codes)
    for row, policy in enumerate(codes):
        chosen = [
            (space.layer_named[name], group.all_choices[code])
            for group, code in zip(space.groups, policy, strict=True)
            for name in group.layers
        ]
        kernels = sum(profile.by_key[layer_key(BACKEND, *pair)].latency_ms for pair in chosen)
        expected = kernels + slow_edges(space, profile, policy)
        assert got["latency_ms"][row] == pytest.approx(expected)
        assert got["size_bytes"][row] == sum(size_bytes(*pair) for pair in chosen)
        assert got["bops"][row] == sum(bops(*pair) for pair in chosen)


def test_tables_sum_over_tied_layers_and_cover_baseline_choices():
    layers = [conv("a", 0, 4, 8), conv("b", 1, 8, 8, producers=("a",)), linear("fc", 2)]
    space = space_of(layers, ("int8sc/int8ut",), extra=("float32",), ties=[("a", "b")])
    model = build_cost_model(space, table_for(space, simple_latency), BACKEND)
    np.testing.assert_allclose(model.table("latency_ms"), [[2.0, 20.0], [1.0, 10.0]])
    eight = parse_choice("int8sc/int8ut")
    assert model.table("size_bytes")[0, 0] == sum(size_bytes(layer, eight) for layer in layers[:2])
    assert model.costs(np.array([[1, 1]]))["latency_ms"] == pytest.approx([30.0])


def test_narrower_groups_are_padded_with_nan():
    space = space_of([conv("a"), conv("b", 1)])
    short = space.groups[1].__class__("b", ("b",), (parse_choice("float32"),))
    space = space.__class__("tiny", space.layers, (space.groups[0], short))
    table = build_cost_model(space, table_for(space, simple_latency), BACKEND).table("latency_ms")
    assert np.isnan(table).tolist() == [[False, False], [False, True]]


def test_many_policies_are_costed_in_chunks():
    space = chain()
    model = build_cost_model(space, table_for(space, simple_latency), BACKEND)
    codes = np.zeros((40_000, 3), dtype=np.int64)
    codes[-1] = FLOAT
    latency = model.costs(codes)["latency_ms"]
    assert latency.shape == (40_000,)
    assert (latency[0], latency[-1]) == (pytest.approx(3.11), pytest.approx(30.0))


def test_a_gap_lists_layers_and_the_command():
    space = chain()
    gone = layer_key(BACKEND, space.layers[1], parse_choice("int8sc/int8ut"))
    profile = table_for(space, skip=(gone,))
    # b and c have the same geometry, so both lack it.
    assert missing_keys(space, profile, BACKEND) == [gone]
    with pytest.raises(ProfileError) as caught:
        build_cost_model(space, profile, BACKEND)
    text = str(caught.value)
    assert "lacks 1 entries of space 'tiny': b (w8a8), c (w8a8)" in text
    assert "bitfront-measure build task=<task> space=tiny" in text
    assert caught.value.exit_code == 5


def test_a_gap_in_conversions_is_a_gap():
    space = chain()
    gone = quantize_key(space.layers[0].input_shape, "uint8")
    with pytest.raises(ProfileError, match=r"a \(w8a8\)"):
        build_cost_model(space, table_for(space, skip=(gone,)), BACKEND)


def test_identical_layers_share_their_keys():
    keys = required_keys(chain(), BACKEND)
    # a and b=c differ in shape: two kernels each, quantize for 4 and 8 channels, one dequantize.
    assert len(keys) == len(set(keys)) == 2 * 2 + 2 + 1


def test_batches_have_their_own_entries():
    space = chain()
    assert len(missing_keys(space, table_for(space), BACKEND, batch=8)) == 7


def test_provenance_says_what_was_measured_and_what_is_storage_only():
    space = space_of([conv("a")], ("int4sc/int8ut", "int8sc/int8ut"))
    profile = table_for(space)
    found = build_cost_model(space, profile, BACKEND).provenance()
    assert found["profile_hash"] == profile.hash
    assert found["size_bytes"]["kind"] == "computed"
    latency = found["latency_ms"]
    assert (latency["kind"], latency["validated"]) == ("measured", False)
    assert list(latency["storage_only"]["a"]) == ["int4sc/int8ut"]


def test_an_entry_whose_kernel_did_not_run_is_storage_only():
    space = space_of([conv("a")], ("int8sc/int8ut",))
    ops = ("DequantizeLinear", "Conv")
    keys = required_keys(space, BACKEND)
    profile = profile_of([entry(key, genuine=False, kernel_ops=ops) for key in keys])
    reason = build_cost_model(space, profile, BACKEND).provenance()["latency_ms"]["storage_only"]
    assert reason == {
        "a": {"int8sc/int8ut": "the runtime executed DequantizeLinear, Conv instead"}
    }


def test_mixed_provenance_is_not_called_measured():
    space = space_of([conv("a")])
    first, *rest = required_keys(space, BACKEND)
    profile = profile_of([entry(first, provenance="published"), *map(entry, rest)])
    kind = build_cost_model(space, profile, BACKEND).provenance()["latency_ms"]
    assert (kind["kind"], kind["kinds"]) == ("mixed", ["measured", "published"])


def test_peak_memory_is_the_largest_layer_and_not_a_sum():
    space = chain()
    model = build_cost_model(space, table_for(space), BACKEND)
    floats, mixed = np.array([[FLOAT] * 3]), np.array([[FLOAT, INT8, INT8]])
    # Layers hold 12, 16 and 16 maps of 36 values.
    assert model.costs(floats)["peak_bytes"][0] == 4 * 16 * 36
    assert model.costs(mixed)["peak_bytes"][0] == 4 * 12 * 36
    tied = space_of(space.layers, ties=[("a", "c")])
    model = build_cost_model(tied, table_for(tied), BACKEND)
    assert model.table("peak_bytes")[0].tolist() == [16 * 36, 4 * 16 * 36]


def test_energy_is_a_cost_only_where_every_entry_has_one():
    space = chain()
    table = table_for(space)
    whole = replace(table, entries=tuple(replace(e, energy_mj=0.5) for e in table.entries))
    model = build_cost_model(space, whole, BACKEND)
    assert "energy_mj" in model.metrics
    assert model.costs(np.array([[INT8, FLOAT, INT8]]))["energy_mj"][0] == 1.5
    assert model.provenance()["energy_mj"]["kind"] == "measured"
    half = replace(whole, entries=(replace(whole.entries[0], energy_mj=None), *whole.entries[1:]))
    for partial in (table, half):
        model = build_cost_model(space, partial, BACKEND)
        assert "energy_mj" not in model.metrics
        assert "energy_mj" not in model.provenance()
