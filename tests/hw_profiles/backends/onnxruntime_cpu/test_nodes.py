"""Splitting optimised graphs: every node once, keyed by what decides its time."""

import numpy as np
import torch
from onnx.numpy_helper import to_array

from hw_profiles.backends.onnxruntime_cpu import OnnxRuntimeCpu
from hw_profiles.backends.onnxruntime_cpu.measure import core, executed
from hw_profiles.backends.onnxruntime_cpu.network import OnnxNetwork
from hw_profiles.backends.onnxruntime_cpu.nodes import (
    STREAMED_BYTES,
    is_memory_bound,
    repeated,
    split_nodes,
    unique,
)
from hw_profiles.backends.onnxruntime_cpu.session import open_optimized, optimized_graph
from hw_profiles.keys import layer_key
from hw_profiles.timing import Protocol
from search.tasks.models import ResNet
from spaces.choices import parse_choice
from spaces.inventory import trace
from tests.hw_profiles.layers import conv, linear

BACKEND = OnnxRuntimeCpu(Protocol(rounds=10, block_ms=0.05))
INT8, FLOAT = parse_choice("int8sc/int8ut"), parse_choice("float32")


def network():
    model, x = ResNet(8).eval(), torch.randn(1, 1, 16, 16)
    layers = trace(model, x).layers
    return OnnxNetwork.of(model, layers, x, 0), layers


def kernels(layers, choice):
    return {layer.name: BACKEND.runs_as(layer, choice) for layer in layers}


def test_the_nodes_are_those_of_the_optimised_graph():
    net, layers = network()
    graph = optimized_graph(net.lowered(kernels(layers, INT8)))
    nodes = split_nodes(graph, net.feed)
    assert [node.op for node in nodes] == [node.op_type for node in graph.graph.node]
    assert len(list(unique(nodes))) < len(nodes), "repeated blocks repeat nodes"


def test_every_node_runs_alone_and_hands_out_what_the_graph_does():
    net, layers = network()
    for node in net.nodes(kernels(layers, INT8)):
        outputs = open_optimized(node.model).run(None, dict(node.inputs))
        for value, declared in zip(outputs, node.model.graph.output, strict=True):
            sizes = [axis.dim_value for axis in declared.type.tensor_type.shape.dim]
            assert list(value.shape) == sizes


def test_one_node_has_one_name_in_every_policy():
    net, layers = network()
    first = {node.id: node.text for node in net.nodes(kernels(layers, INT8))}
    mixed = kernels(layers, INT8) | {layers[0].name: BACKEND.runs_as(layers[0], FLOAT)}
    second = {node.id: node.text for node in net.nodes(mixed)}
    shared = set(first) & set(second)
    assert len(shared) > len(second) / 2
    assert all(first[name] == second[name] for name in shared)


def test_shapes_and_attributes_tell_nodes_apart():
    rng = np.random.default_rng(0)
    layers = [conv(cin=16, cout=16), conv(cin=16, cout=32), conv(cin=16, cout=16, size=7)]
    keys = [layer_key(BACKEND, layer, FLOAT) for layer in layers]
    texts = {core(key, executed(key, rng))[0].text for key in keys}
    assert len(texts) == 3


def test_the_core_of_a_layer_leaves_layout_conversions_out():
    rng = np.random.default_rng(0)
    key = layer_key(BACKEND, conv(cin=16, cout=16), INT8)
    nodes = executed(key, rng)
    assert [node.op for node in nodes] == ["Transpose", "QLinearConv", "Transpose"]
    assert [node.op for node in core(key, nodes)] == ["QLinearConv"]


def test_one_row_of_a_large_matrix_is_memory_bound():
    rng = np.random.default_rng(0)
    for rows, bound in ((1, True), (32, False)):
        key = layer_key(BACKEND, linear(cin=128, cout=128, rows=rows), FLOAT)
        (node,) = core(key, executed(key, rng))
        assert is_memory_bound(node) == bound


def large_node():
    key = layer_key(BACKEND, linear(cin=128, cout=128, rows=1), INT8)
    return core(key, executed(key, np.random.default_rng(0)))[0]


def test_copies_have_weights_of_their_own_since_equal_ones_are_packed_once():
    graph = repeated(large_node(), 8).graph
    large = [item for item in map(to_array, graph.initializer) if item.nbytes >= STREAMED_BYTES]
    assert len(large) == 8
    assert len({item.tobytes() for item in large}) == 8
    assert {item.shape for item in large} == {large[0].shape}
    assert len({tuple(np.sort(item, axis=None)) for item in large}) == 1, "rolled, not redrawn"


def test_resident_copies_share_their_weights():
    graph = repeated(large_node(), 8, resident=True).graph
    assert len(graph.node) == 8
    assert sum(to_array(item).nbytes >= STREAMED_BYTES for item in graph.initializer) == 1


def test_repeated_nodes_compute_what_one_does():
    node = large_node()
    (expected,) = open_optimized(node.model).run(None, dict(node.inputs))
    for copies, resident in ((1, False), (3, True)):
        (found,) = open_optimized(repeated(node, copies, resident=resident)).run(
            None, dict(node.inputs)
        )
        np.testing.assert_array_equal(found, expected)


def test_only_what_a_private_cache_could_hold_is_timed_resident():
    cases = {64: False, 128: True, 2048: False}
    keys = {size: layer_key(BACKEND, linear(cin=size, cout=size), INT8) for size in cases}
    found = BACKEND.measure(list(keys.values()), str)
    by_key = {entry.key: entry for entry in found.entries}
    for size, resident in cases.items():
        assert (by_key[keys[size]].resident_ms is not None) == resident, size


def test_the_profiler_sees_the_ops_of_the_optimised_graph():
    net, layers = network()
    chosen = kernels(layers, INT8)
    times = net.op_times(chosen, 3)
    assert set(times) == {node.op for node in net.nodes(chosen)}
    assert all(ms >= 0 for ms in times.values())


def test_an_entry_is_the_sum_of_its_nodes():
    keys = [layer_key(BACKEND, conv(cin=8, cout=8), choice) for choice in (INT8, FLOAT)]
    found = BACKEND.measure(keys, str)
    times = {node.id: node.latency_ms for node in found.nodes}
    rng = np.random.default_rng(BACKEND.seed)
    for key, entry in zip(keys, found.entries, strict=True):
        assert entry.key == key
        expected = sum(times[node.id] for node in core(key, executed(key, rng)))
        assert abs(entry.latency_ms - expected) < 1e-9
