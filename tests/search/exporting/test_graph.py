"""Graphs with true numbers answer in ONNX Runtime as the simulation with the same roundings."""

import numpy as np
import pytest
import torch
from torch import nn

from hw_profiles.backends.onnxruntime_cpu.lower import Range
from hw_profiles.backends.onnxruntime_cpu.models import INPUT
from hw_profiles.backends.onnxruntime_cpu.session import op_types, open_session, optimized_graph
from quant.affine import QParams
from quant.errors import UsageError
from quant.formats import parse_format
from quant.method import Method
from quant.model import QuantizedModel
from search.exporting.graph import DeviceOutput, build_graph, uint8_grid
from spaces.choices import parse_choice
from spaces.inventory import trace
from tests.hw_profiles.networks import block


class Calibrated:
    """The small residual network, calibrated on random images."""

    def __init__(self, method=None, seed=0):
        self.model, example = block(seed)
        self.layers = trace(self.model, example).layers
        torch.manual_seed(1)
        self.batches = list(torch.randn(4, 25, 3, 8, 8))
        names = [spec.name for spec in self.layers]
        self.quantized = QuantizedModel(self.model, names, method or Method(), self.batches)
        self.test = torch.randn(200, 3, 8, 8)

    def choices(self, *texts):
        """Choices in turn, over the layers."""
        return {
            spec.name: parse_choice(texts[index % len(texts)])
            for index, spec in enumerate(self.layers)
        }

    def graph(self, choices):
        return build_graph(self.quantized, self.layers, choices, self.batches)

    def simulated(self, choices, graph=None):
        self.quantized.apply(choices)
        if graph is not None:
            graph.round_outputs(self.quantized)
        with torch.no_grad():
            found = self.quantized(self.test).numpy()
        self.quantized.float_()
        return found


def answers(graph, inputs):
    return open_session(graph.model).run(None, {INPUT: inputs.numpy()})[0]


@pytest.fixture(scope="module")
def net():
    return Calibrated()


POLICIES = {
    "float": ("float32",),
    "int8": ("int8src/int8ut",),
    "low": ("int8src/int8ut", "int2src/int8ut", "int4src/int8ut", "int3src/int8ut"),
    "mixed": ("int8src/int8ut", "float32", "int4sc/int8ut"),
    "tensor scales": ("int8st/int8ut", "int4n3/int8ut"),
    "symmetric inputs": ("int8src/int8st", "int8src/int8srt"),
    "few input bits": ("int8src/int8ut", "int4src/int4ut"),
    "stored only": ("nf4c/int8ut", "int4sg4/int8ut", "int4uc/int8ut", "vq2d2/int8ut"),
    "weights only": ("int4sg16/float32", "int8sc/float32", "int3uc/float32", "int2sc/float32"),
    "dynamic linear": ("int8src/int8ut", "int8src/int8ut", "int8src/int8ut", "int8src/float32"),
}


@pytest.mark.parametrize("name", POLICIES)
def test_the_runtime_answers_as_the_simulation_with_its_roundings(net, name):
    choices = net.choices(*POLICIES[name])
    graph = net.graph(choices)
    found, expected = answers(graph, net.test), net.simulated(choices, graph)
    scale = expected.std()
    # Rounding ties fall differently now and then; a wrong scale or zero point is far away.
    assert np.abs(found - expected).mean() < 0.01 * scale
    assert np.abs(found - expected).max() < 0.3 * scale
    if name == "float":
        assert np.allclose(found, expected, atol=1e-5)


def test_dynamic_inputs_use_the_range_of_the_batch(net):
    choices = net.choices("float32")
    for spec in net.layers:
        if spec.op == "linear":
            choices[spec.name] = parse_choice("int8sc/int8ut@dynamic")
    graph = net.graph(choices)
    assert np.allclose(answers(graph, net.test), net.simulated(choices), atol=0.02)
    assert {"DynamicQuantizeMatMul", "MatMulIntegerToFloat"} & set(
        op_types(optimized_graph(graph.model))
    )


def test_any_batch_gives_each_sample_the_same_answer(net):
    graph = net.graph(net.choices("int8src/int8ut"))
    whole = answers(graph, net.test[:7])
    ones = np.concatenate([answers(graph, image[None]) for image in net.test[:7]])
    assert np.allclose(whole, ones, atol=1e-5)


def test_integer_kernels_run_and_a_layer_shares_its_readers_grid(net):
    graph = net.graph(net.choices("int8src/int8ut"))
    ops = op_types(optimized_graph(graph.model))
    convolutions = sum(spec.op == "conv2d" for spec in net.layers)
    assert ops.count("QLinearConv") == convolutions
    parameters = graph.parameters
    # Both convolutions read the stem on one grid, so its output is rounded once.
    assert parameters.output_grid("stem.0") == parameters.input_grid("left")
    assert parameters.output_grid("left") == uint8_grid(
        parameters.outputs["left"], nonnegative=False
    )


def test_low_bit_codes_are_spread_over_eight_bits(net):
    """Then the integer bias, in steps of input scale times weight scale, loses little."""
    graph = net.graph(net.choices("int2src/int8ut"))
    kernel = graph.parameters.kernels["left"]
    stored = graph.parameters.weights("left", kernel)
    assert set(np.unique(stored.values)) <= {-127, 0, 127}
    real = stored.values * stored.scale.reshape(-1, 1, 1, 1)
    assert np.allclose(real, graph.parameters.numbers["left"].weight, atol=1e-6)


@pytest.mark.parametrize(
    "method",
    [
        Method(repair=("bias_correction",)),
        Method(repair=("bn_reestimate",)),
        Method(repair=("equalize",)),
        Method(fold_batch_norm=False),
    ],
    ids=["bias", "norms", "equalized", "unfolded"],
)
def test_repairs_are_exported(method):
    net = Calibrated(method)
    choices = net.choices("int3src/int8ut", "int4src/int8ut")
    graph = net.graph(choices)
    found, expected = answers(graph, net.test), net.simulated(choices, graph)
    assert np.abs(found - expected).mean() < 0.01 * expected.std()
    if method.repair in (("bias_correction",), ("bn_reestimate",)):
        unrepaired = Calibrated().simulated(choices)
        assert np.abs(found - unrepaired).mean() > 0.01 * expected.std()


def grid(fmt, scale=0.5, zero=0):
    return QParams(torch.tensor(scale), torch.tensor(zero, dtype=torch.int32), parse_format(fmt))


@pytest.mark.parametrize(
    ("found", "nonnegative", "expected"),
    [
        (grid("int8ut", zero=7), False, Range(0.5, 7)),
        (grid("int8ut"), True, Range(0.5, 0)),
        (grid("int8st"), False, Range(0.5, 128)),
        (grid("int8srt"), False, Range(0.5, 128, 1, 255)),
        (grid("int8st"), True, Range(0.5, 0, 0, 127)),
        (grid("int4ut", zero=3), False, Range(0.5, 3, 0, 15)),
        (grid("int4st"), False, Range(0.5, 128, 120, 135)),
    ],
)
def test_static_grids_become_uint8(found, nonnegative, expected):
    assert uint8_grid(found, nonnegative=nonnegative) == expected


def test_a_device_output_adds_the_bias_error_before_rounding():
    rounding = DeviceOutput(torch.tensor(0.3), Range(0.5, 0), lambda x: x + 1)
    assert rounding(torch.tensor([0.0, -5.0, 500.0])).tolist() == [1.5, 0.0, 127.5]
    assert DeviceOutput(torch.tensor(0.25), None)(torch.zeros(1)).tolist() == [0.25]


@pytest.mark.parametrize("text", ["int8sc/int8uk@dynamic", "int8sc/fp8e4m3", "int8sc/float16"])
def test_inputs_without_an_operator_are_refused_by_layer(net, text):
    with pytest.raises(UsageError, match=r"(?s)the first is 'stem.0'.*format=torch"):
        net.graph(net.choices(text))


def test_an_operator_the_translation_lacks_is_named():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return torch.linalg.matrix_exp(self.fc(x)[:, :, None] * torch.ones(1, 1, 4))

    model = Odd().eval()
    layers = trace(model, torch.randn(1, 4)).layers
    batches = [torch.randn(3, 4)]
    quantized = QuantizedModel(model, ["fc"], Method(), batches)
    with pytest.raises(UsageError, match="cannot be translated to ONNX"):
        build_graph(quantized, layers, {"fc": parse_choice("int8src/int8ut")}, batches)
