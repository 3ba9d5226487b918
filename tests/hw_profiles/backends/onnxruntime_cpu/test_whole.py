"""Whole models: the graph computes what the model does, and the runtime fuses it (by op type)."""

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from hw_profiles.backends.onnxruntime_cpu import OnnxRuntimeCpu
from hw_profiles.backends.onnxruntime_cpu.kernels import DYNAMIC_CHOICE, STATIC_CHOICE
from hw_profiles.backends.onnxruntime_cpu.models import INPUT
from hw_profiles.backends.onnxruntime_cpu.network import OnnxNetwork
from hw_profiles.backends.onnxruntime_cpu.session import op_types, open_session, optimized_graph
from hw_profiles.backends.onnxruntime_cpu.skeleton import export_skeleton, layer_name
from hw_profiles.backends.onnxruntime_cpu.whole import lower_model
from hw_profiles.timing import Protocol
from quant.errors import UsageError
from search.tasks.models import ResNet, VisionTransformer
from spaces.choices import FLOAT_CHOICE, parse_choice
from spaces.inventory import trace
from tests.hw_profiles.networks import TrueParameters, block

BACKEND = OnnxRuntimeCpu(Protocol())


def lowered(model, example, choice, **options):
    layers = trace(model, example).layers
    skeleton = export_skeleton(model, layers, example, **options)
    chosen = choice if callable(choice) else lambda _: choice
    kernels = {layer.name: BACKEND.runs_as(layer, chosen(layer)) for layer in layers}
    return lower_model(skeleton, kernels, TrueParameters(model, example))


def run(model, x):
    return open_session(model).run(None, {INPUT: x.numpy()})[0]


def test_float_layers_compute_what_the_model_does():
    model, x = block()
    graph = lowered(model, x, FLOAT_CHOICE)
    onnx.checker.check_model(graph)
    with torch.no_grad():
        expected = model(x).numpy()
    assert np.abs(run(graph, x) - expected).max() < 1e-5


@pytest.mark.parametrize("choice", [STATIC_CHOICE, DYNAMIC_CHOICE])
def test_integer_layers_stay_close_to_the_model(choice):
    model, x = block()
    with torch.no_grad():
        expected = model(x).numpy()
    got = run(lowered(model, x, choice), x)
    assert 0 < np.abs(got - expected).max() < 0.05 * np.abs(expected).max() + 0.02


def test_a_mixed_policy_converts_where_formats_meet():
    model, x = block()
    integer = {"stem.0", "query"}
    graph = lowered(
        model, x, lambda layer: STATIC_CHOICE if layer.name in integer else FLOAT_CHOICE
    )
    ops = Counter(op_types(optimized_graph(graph)))
    assert ops["QLinearConv"] == 1
    assert ops["QGemm"] == 1
    assert ops["QuantizeLinear"] == 2
    with torch.no_grad():
        assert np.abs(run(graph, x) - model(x).numpy()).max() < 0.05


def test_the_batch_axis_can_stay_open():
    model, x = block()
    batch = torch.randn(4, 3, 8, 8)
    graph = lowered(model, x, FLOAT_CHOICE, dynamic_batch=True)
    with torch.no_grad():
        assert np.abs(run(graph, batch) - model(batch).numpy()).max() < 1e-5


def kernels_of(model, choice, size=32):
    example = torch.randn(1, 1, size, size)
    layers = trace(model, example).layers
    network = OnnxNetwork.of(model, layers, example, 0)
    taken = parse_choice(choice)
    return network, {layer.name: BACKEND.runs_as(layer, taken) for layer in layers}


@pytest.mark.parametrize(
    ("model", "choice", "expected", "count"),
    [
        (ResNet(8), "int8sc/int8ut", "QLinearConv", 15),
        (VisionTransformer(depth=1), "int8sc/int8ut", "QGemm", 8),
        (VisionTransformer(depth=1), "int4sg128", "MatMulNBits", 8),
        (VisionTransformer(depth=1), "float32", "Gemm", 8),
    ],
)
def test_every_layer_of_a_uniform_policy_runs_its_kernel(model, choice, expected, count):
    network, kernels = kernels_of(model.eval(), choice)
    ops = Counter(node.op for node in network.nodes(kernels))
    assert ops[expected] == count
    if choice.startswith("int"):
        assert not {"Conv", "FusedConv", "Gemm"} & set(ops), "nothing may stay in float"


def test_dynamic_layers_of_one_input_still_fuse():
    network, kernels = kernels_of(VisionTransformer(depth=1).eval(), "int8sc/int8ut@dynamic")
    ops = Counter(node.op for node in network.nodes(kernels))
    assert ops["DynamicQuantizeMatMul"] + ops["MatMulIntegerToFloat"] == 8
    assert "MatMulInteger" not in ops


def test_layers_of_one_input_share_their_quantize():
    network, kernels = kernels_of(VisionTransformer(depth=1).eval(), "int8sc/int8ut")
    # Patches, query/key/value together, attention output, up, down, head.
    assert Counter(node.op for node in network.nodes(kernels))["QuantizeLinear"] == 6


def test_neighbours_are_readers_twins_and_joined_layers():
    network, _ = kernels_of(ResNet(8).eval(), "float32")
    pairs = set(network.neighbours)
    assert ("stem.0", "stage1.0.conv1") in pairs
    assert ("stage1.0.conv1", "stage1.0.conv2") in pairs
    assert ("stage2.0.conv1", "stage2.0.shortcut.0") in pairs, "both read one tensor"
    assert ("stage2.0.conv2", "stage2.0.shortcut.0") in pairs, "an addition joins them"
    assert ("stem.0", "head") not in pairs


def test_the_signature_forgets_trained_numbers_only():
    first, _ = kernels_of(VisionTransformer(depth=1).eval(), "float32")
    second, _ = kernels_of(VisionTransformer(depth=1).eval(), "float32")
    other, _ = kernels_of(VisionTransformer(depth=1, width=32).eval(), "float32")
    assert first.signature == second.signature != other.signature


def test_exporting_leaves_the_model_alone():
    model, x = block()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    skeleton = export_skeleton(model, trace(model, x).layers, x)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    names = [layer_name(node) for node in skeleton.model.graph.node if layer_name(node)]
    assert names == [layer.name for layer in trace(model, x).layers]


class Strange(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return torch.special.bessel_j0(self.fc(x))


def test_an_operator_without_translation_is_named():
    model, x = Strange().eval(), torch.randn(1, 4)
    with pytest.raises(UsageError, match=r"cannot be translated to ONNX.*bessel_j0"):
        export_skeleton(model, trace(model, x).layers, x)
