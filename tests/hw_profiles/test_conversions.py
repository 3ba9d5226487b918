"""Conversions read off graphs: known ones are found again, exactly; then the loop they replace."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_profiles.backends.onnxruntime_cpu import OnnxRuntimeCpu
from hw_profiles.conversions import (
    GOOD_ERROR,
    Conversions,
    draw_codes,
    explain,
    fit,
    kernels_of,
    layer_sum_ms,
    node_sum_ms,
    probe_count,
    read_graphs,
    unknown_nodes,
)
from hw_profiles.fitted import FittedEdges, spread
from hw_profiles.keys import layer_key, required_keys
from hw_profiles.profile import NodeEntry
from hw_profiles.table_cost import Edges, build_cost_model
from hw_profiles.timing import Protocol
from tests.hw_profiles.layers import conv, entry, linear, profile_of, space_of

BACKEND = OnnxRuntimeCpu(Protocol())
REST, SAVED, UNARY = 0.7, 0.2, 0.05


@dataclass(frozen=True)
class FakeNode:
    id: str
    text: str = "node"


@dataclass(frozen=True)
class FakeNetwork:
    """Pays REST, UNARY per integer layer, and saves SAVED where two integer neighbours meet."""

    names: tuple[str, ...]
    signature: str = "fake"

    @property
    def neighbours(self):
        return tuple(pairwise(self.names))

    def nodes(self, kernels):
        integer = {name: kernel.text != "float32/float32" for name, kernel in kernels.items()}
        found = [f"layer {name} {kernel.text}" for name, kernel in kernels.items()]
        found += ["rest", *(["unary"] * sum(integer.values()))]
        met = sum(integer[a] and integer[b] for a, b in self.neighbours)
        found += ["gap"] * (len(self.neighbours) - met)
        return [FakeNode(name) for name in found]

    def call(self, kernels):
        return lambda: None


class Unexplained(FakeNetwork):
    """Pays for three integer layers in a row, which no term knows."""

    def nodes(self, kernels):
        integer = [kernel.text != "float32/float32" for kernel in kernels.values()]
        runs = sum(all(integer[i : i + 3]) for i in range(len(integer) - 2))
        return [*super().nodes(kernels), *[FakeNode("rest")] * (3 * runs)]


def fake(choices=("int8sc/int8ut", "float32"), ties=(), count=6):
    layers = [conv(f"l{i}", i, 4, 4) for i in range(count - 1)] + [linear("fc", count - 1)]
    space = space_of(layers, choices, ties=ties)
    rng = np.random.default_rng(0)
    entries = [entry(key, float(rng.uniform(0.5, 2.0))) for key in required_keys(space, BACKEND)]
    network = FakeNetwork(tuple(layer.name for layer in layers))
    profile = profile_of(entries)
    nodes = [NodeEntry("rest", "", REST), NodeEntry("unary", "", UNARY)]
    nodes.append(NodeEntry("gap", "", SAVED))
    for layer in layers:
        for choice in space.groups[0].all_choices:
            key = layer_key(BACKEND, layer, choice)
            text = BACKEND.runs_as(layer, choice).text
            time = profile.by_key[key].latency_ms
            nodes.append(NodeEntry(f"layer {layer.name} {text}", "", time))
    return network, space, profile.merged((), "now", {node.id: node for node in nodes}.values())


def fitted(network, space, profile, n=60):
    codes = draw_codes(space, np.random.default_rng(1), n)
    probes = read_graphs(network, space, BACKEND, codes, str)
    return fit(network, space, profile, BACKEND, probes, 1), probes


def test_known_conversions_are_found():
    found, _ = fitted(*fake())
    assert found.error < 1e-9
    assert all(value == pytest.approx(-SAVED) for *_, value in found.pairs_ms)
    for name in ("l0", "l4", "fc"):
        change = found.unary_ms[name]["float32/float32"]
        assert change == pytest.approx(-UNARY), "float instead of integer saves the unary node"


def test_graphs_are_read_until_the_fit_is_good():
    network, space, profile = fake()
    codes = draw_codes(space, np.random.default_rng(1), 400)
    first = probe_count(network, space)
    found, _ = explain(network, space, profile, BACKEND, codes, 1, str)
    assert found.probes in (first, round(1.5 * first)), "the form is exact: few are needed"
    assert found.error < 1e-9
    lines = []
    wrong = Unexplained(network.names)
    found, _ = explain(wrong, space, profile, BACKEND, codes, 1, lines.append)
    assert found.probes == 400, "no number of graphs explains this one"
    assert found.error > GOOD_ERROR
    assert [line for line in lines if line.startswith("reading")][:2] == [
        f"reading the optimised graphs of {n} policies" for n in (first, round(1.5 * first))
    ]
    found, _ = explain(wrong, space, profile, BACKEND, codes[:50], 1, str)
    assert found.probes == 50


@pytest.mark.parametrize("ties", [(), [("l1", "l3")], [("l0", "l1", "l2")]])
def test_predictions_equal_node_sums_where_the_form_is_exact(ties):
    network, space, profile = fake(ties=ties)
    found, probes = fitted(network, space, profile)
    edges = FittedEdges.of(space, BACKEND, found)
    model = build_cost_model(
        space, profile, BACKEND, edges=Edges(edges.latency_ms, edges.unary_ms, found.rest_ms)
    )
    codes = np.array([probe.codes for probe in probes])
    expected = [node_sum_ms(probe.nodes, profile.node_ms) for probe in probes]
    assert np.allclose(model.costs(codes)["latency_ms"], expected)


def test_three_kernels_of_one_layer_are_told_apart():
    choices = ("int8sc/int8ut", "int8sc/int8ut@dynamic", "float32")
    network, space, profile = fake(choices)
    profile = profile.merged((), "now", [NodeEntry("layer fc x", "", 1.0)])
    found, _ = fitted(network, space, profile, 80)
    assert set(found.unary_ms["fc"]) == {"int8sc/int8ut@dynamic", "float32/float32"}


def slow(space, found, codes):
    """The definition, one policy at a time."""
    kernels = kernels_of(space, BACKEND, codes)
    integer = {name: BACKEND.edges(space.layer_named[name], k)[0] == "uint8"
               for name, k in kernels.items()}  # fmt: skip
    total = found.rest_ms
    total += sum(found.unary_ms.get(n, {}).get(k.text, 0.0) for n, k in kernels.items())
    return total + sum(v for a, b, v in found.pairs_ms if integer[a] and integer[b])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=5, max_size=5), st.integers(0, 1000))
def test_edges_equal_the_definition_and_are_never_negative(values, seed):
    _, space, _ = fake(ties=[("l1", "l3")])
    pairs = tuple((f"l{i}", f"l{i + 1}" if i < 4 else "fc", v) for i, v in enumerate(values))
    found = Conversions(0.5, {"l2": {"float32/float32": 0.125}}, pairs, 10, 0.0)
    edges = FittedEdges.of(space, BACKEND, found)
    codes = draw_codes(space, np.random.default_rng(seed), 20)
    rows = np.arange(codes.shape[1])
    got = edges.latency_ms(codes) + edges.unary_ms[rows, codes].sum(1) + found.rest_ms
    assert np.allclose(got, [slow(space, found, row) for row in codes])
    assert (edges.latency_ms(codes) >= 0).all()


def test_slope_and_intercept_reach_table_and_total():
    network, space, profile = fake()
    found, probes = fitted(network, space, profile)
    edges = FittedEdges.of(space, BACKEND, found)
    plain = build_cost_model(
        space, profile, BACKEND, edges=Edges(edges.latency_ms, edges.unary_ms, found.rest_ms)
    )
    line = Edges(edges.latency_ms, edges.unary_ms, found.rest_ms, 0.25, 2.0, {"validated": True})
    scaled = build_cost_model(space, profile, BACKEND, edges=line)
    codes = probes[0].codes
    one, two = (model.costs(codes)["latency_ms"][0] for model in (plain, scaled))
    assert two == pytest.approx(0.25 + 2 * one)
    rows = np.arange(len(codes))
    sums = [model.table("latency_ms")[rows, codes].sum() for model in (plain, scaled)]
    assert sums[1] == pytest.approx(0.25 + 2 * sums[0])
    assert scaled.provenance()["latency_ms"]["validated"] is True


def test_draws_hold_every_choice_and_are_reproducible():
    _, space, _ = fake()
    codes = draw_codes(space, np.random.default_rng(3), 200)
    assert codes.shape == (200, 6)
    assert set(np.unique(codes)) == {0, 1}
    assert len(np.unique(codes, axis=0)) > 30
    assert (codes == draw_codes(space, np.random.default_rng(3), 200)).all()
    shares = (codes == 0).mean(1)
    assert shares.min() == 0.0
    assert shares.max() == 1.0


def test_probes_grow_with_the_terms_of_the_fit():
    small, large = fake(count=4), fake(count=40)
    assert probe_count(*small[:2]) < probe_count(*large[:2])


def test_only_nodes_without_a_time_are_unknown():
    network, space, profile = fake()
    probes = read_graphs(
        network, space, BACKEND, draw_codes(space, np.random.default_rng(0), 9), str
    )
    assert unknown_nodes(probes, profile) == []
    fewer = profile_of(profile.entries, nodes=profile.nodes[:1])
    assert {node.id for node in unknown_nodes(probes, fewer)} <= set(profile.node_ms)
    assert unknown_nodes(probes, fewer)


def test_the_layer_sum_is_the_table():
    _, space, profile = fake()
    codes = np.zeros(6, dtype=np.int64)
    expected = sum(
        profile.by_key[layer_key(BACKEND, layer, space.groups[0].choices[0])].latency_ms
        for layer in space.layers
    )
    assert layer_sum_ms(space, profile, BACKEND, codes, 1) == pytest.approx(expected)


@given(
    st.lists(st.lists(st.floats(-5, 5), min_size=2, max_size=2), min_size=1, max_size=5),
    st.floats(-3, 30),
)
def test_a_spread_constant_reaches_every_sum(rows, constant):
    table = np.array(rows)
    got = spread(table, constant)
    assert np.allclose((got - table)[:, 0], (got - table)[:, 1]), "choices are shifted alike"
    assert (got - table)[:, 0].sum() == pytest.approx(constant, abs=1e-9)
    lifted = np.maximum(-table.min(axis=1), 0).sum()
    assert (got.min(axis=1) >= -1e-9).all() or constant < lifted
