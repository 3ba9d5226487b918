"""Lowered layers compute what they should, and the runtime really fuses them (by op type)."""

import numpy as np
import onnx
import pytest

from hw_profiles.backends.onnxruntime_cpu import OnnxRuntimeCpu
from hw_profiles.backends.onnxruntime_cpu.kernels import Kernel, runs_as
from hw_profiles.backends.onnxruntime_cpu.lower import (
    Range,
    Weights,
    lower_layer,
    pack_bits,
)
from hw_profiles.backends.onnxruntime_cpu.measure import is_genuine
from hw_profiles.backends.onnxruntime_cpu.models import (
    INPUT,
    OUTPUT,
    finish,
    kernel_model,
    tensor_shapes,
)
from hw_profiles.backends.onnxruntime_cpu.session import op_types, open_session, optimized_graph
from hw_profiles.keys import dequantize_key, layer_key, quantize_key
from hw_profiles.timing import Protocol
from spaces.choices import parse_choice
from tests.hw_profiles.layers import conv, linear

BACKEND = OnnxRuntimeCpu(Protocol())
LAYERS = {
    "conv2d": conv(cin=16, cout=32, size=8),
    "conv2d_no_relu": conv(cin=16, cout=32, size=8, relu=False),
    "pointwise": conv(cin=16, cout=32, size=8, kernel=1),
    "depthwise": conv(cin=16, cout=16, size=8, groups=16),
    "conv1d": conv(cin=16, cout=32, size=8, op="conv1d"),
    "conv3d": conv(cin=4, cout=8, size=4, op="conv3d"),
    "linear": linear(cin=64, cout=32),
    "linear_rows": linear(cin=64, cout=32, rows=17, relu=True),
}


def executed(layer, choice, batch=1):
    key = layer_key(BACKEND, layer, parse_choice(choice), batch)
    return key, op_types(optimized_graph(kernel_model(key, np.random.default_rng(0))))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("batch", [1, 3])
def test_static_int8_becomes_one_integer_kernel(name, batch):
    key, ops = executed(LAYERS[name], "int8sc/int8ut", batch)
    assert {"QLinearConv", "QGemm"} & set(ops)
    assert set(ops) <= {"QLinearConv", "QGemm", "Transpose", "Relu"}, "nothing may stay in float"
    leaving = "float32" if key.op == "linear" else "uint8"
    assert (key.edge_in, key.edge_out) == ("uint8", leaving)
    assert ("Relu" in ops) == (name == "linear_rows"), "a convolution absorbs its ReLU"
    assert is_genuine(key, ops)


@pytest.mark.parametrize("name", LAYERS)
def test_float_layers_stay_float(name):
    key, ops = executed(LAYERS[name], "float32")
    assert not [op for op in ops if "Q" in op or "Integer" in op]
    assert is_genuine(key, ops)


@pytest.mark.parametrize("name", ["linear", "linear_rows"])
def test_dynamic_int8_fuses(name):
    key, ops = executed(LAYERS[name], "int8sc/int8ut@dynamic")
    assert "DynamicQuantizeMatMul" in ops
    assert "MatMulInteger" not in ops
    assert is_genuine(key, ops)
    assert key.edge_in == key.edge_out == "float32"


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_low_bit_weights_keep_their_kernel(bits):
    key, ops = executed(LAYERS["linear"], f"int{bits}sg128")
    assert "MatMulNBits" in ops
    assert is_genuine(key, ops)


def test_a_four_bit_convolution_is_the_eight_bit_kernel():
    key, _ = executed(LAYERS["conv2d"], "int4sc/int8ut")
    assert key == executed(LAYERS["conv2d"], "int8sc/int8ut")[0]


def test_missing_fusion_is_not_genuine():
    key, _ = executed(LAYERS["conv2d"], "int8sc/int8ut")
    assert not is_genuine(key, ("DequantizeLinear", "Conv", "QuantizeLinear"))


def test_conversions_are_single_nodes():
    shape = (1, 4, 6, 6)
    rng = np.random.default_rng(0)
    for key, op in [
        (quantize_key(shape, "uint8"), "QuantizeLinear"),
        (dequantize_key(shape, "uint8"), "DequantizeLinear"),
    ]:
        assert op_types(optimized_graph(kernel_model(key, rng))) == (op,)


@pytest.mark.parametrize("op", ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"])
def test_transposed_convolutions_run_in_float(op):
    key, ops = executed(conv(cin=4, cout=4, size=5, op=op, relu=False), "int8sc/int8ut")
    assert "ConvTranspose" in ops
    assert key.weight_format == "float32"


def run(layer, kernel, weights, x, key, input_range=None):
    part = lower_layer(layer, kernel, weights, INPUT, OUTPUT, prefix="x_", input_range=input_range)
    shapes = tensor_shapes(key)
    model = finish(part, (shapes[0], "float32"), (shapes[1], "float32"))
    onnx.checker.check_model(model)
    return open_session(model).run(None, {INPUT: x})[0]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("asymmetric", [False, True])
def test_blockwise_weights_multiply_as_numpy_does(bits, asymmetric):
    layer, rng = linear(cin=200, cout=8, rows=3), np.random.default_rng(bits)
    scheme = "u" if asymmetric else "s"
    choice = runs_as(layer, parse_choice(f"int{bits}{scheme}g128"))
    low, high = choice.weight.qmin, choice.weight.qmax + 1
    codes = rng.integers(low, high, (8, 200))
    scale = rng.uniform(0.5, 1.0, (8, 2)).astype(np.float32)
    zero = rng.integers(low, high, (8, 2)) if asymmetric else None
    x = rng.standard_normal((3, 200)).astype(np.float32)
    weights = Weights(codes, None, scale, zero, bits, 128)
    got = run(layer, Kernel.NBITS, weights, x, layer_key(BACKEND, layer, choice))
    spread = np.repeat(scale, 128, axis=1)[:, :200]
    offset = 0 if zero is None else np.repeat(zero, 128, axis=1)[:, :200]
    expected = x @ ((codes - offset) * spread).T
    # Accuracy level 4 rounds activations to 8 bits: half a step of 1/127 per input.
    assert np.abs(got - expected).max() < 0.02 * np.abs(expected).max()


def test_dynamic_int8_multiplies_as_numpy_does():
    layer, rng = linear(cin=64, cout=8, rows=3), np.random.default_rng(0)
    codes = rng.integers(-127, 128, (8, 64), dtype=np.int8)
    scale, bias = rng.uniform(0.5, 1.0, 8).astype(np.float32), np.ones(8, np.float32)
    x = rng.standard_normal((3, 64)).astype(np.float32)
    key = layer_key(BACKEND, layer, parse_choice("int8sc/int8ut@dynamic"))
    got = run(layer, Kernel.INT8_DYNAMIC, Weights(codes, bias, scale, bits=8), x, key)
    expected = x @ (codes * scale[:, None]).T + bias
    assert np.abs(got - expected).max() < 0.02 * np.abs(expected).max()


def test_static_int8_is_exact_on_grid_points():
    """Inputs on the grid and a bias on the accumulator's grid leave no rounding at all."""
    layer, rng = linear(cin=16, cout=4), np.random.default_rng(0)
    grid = Range(0.25, 128)
    codes = rng.integers(-127, 128, (4, 16), dtype=np.int8)
    scale = np.full(4, 0.5, np.float32)
    bias = np.array([1.0, -2.0, 0.125, 0.0], np.float32)
    x = (rng.integers(-8, 8, (1, 16)) * 0.25).astype(np.float32)
    key = layer_key(BACKEND, layer, parse_choice("float32"))
    got = run(layer, Kernel.INT8_STATIC, Weights(codes, bias, scale, bits=8), x, key, grid)
    np.testing.assert_array_equal(got, x @ (codes * np.float32(0.5)).T + bias)


def test_static_int8_with_a_bias_needs_its_input_range():
    weights = Weights(np.zeros((4, 16), np.int8), np.zeros(4), np.ones(4, np.float32), bits=8)
    with pytest.raises(ValueError, match="needs the range of its input"):
        lower_layer(linear(cin=16, cout=4), Kernel.INT8_STATIC, weights, "a", "b", prefix="")


def test_codes_are_packed_lowest_bits_first():
    np.testing.assert_array_equal(pack_bits(np.array([1, 2, 3], np.uint8), 4), [0x21, 0x03])
    np.testing.assert_array_equal(pack_bits(np.array([1, 2, 3, 0], np.uint8), 2), [0b00111001])
    np.testing.assert_array_equal(pack_bits(np.array([200, 1], np.uint8), 8), [200, 1])
