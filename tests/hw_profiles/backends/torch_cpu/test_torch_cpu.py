import pytest
import torch
import torch.nn.functional as F

from hw_profiles.backends import load_backend
from hw_profiles.backends.eager import entering, float_layer
from hw_profiles.backends.torch_cpu import BFLOAT16
from hw_profiles.backends.torch_cpu.measure import build_key, measure_keys
from hw_profiles.hw import HwConfig
from hw_profiles.keys import layer_key, quantize_key, required_keys
from hw_profiles.timing import Protocol
from quant.errors import UsageError
from spaces.choices import FLOAT_CHOICE, parse_choice
from tests.hw_profiles.layers import conv, linear, space_of

BACKEND = load_backend(HwConfig("torch_cpu", "torch_cpu"))
QUICK = Protocol(rounds=2, warmup=1, block_ms=0.02)


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        ("float32", FLOAT_CHOICE),
        ("bfloat16/bfloat16", BFLOAT16),
        ("bfloat16/float32", FLOAT_CHOICE),
        ("int8sc/int8ut", FLOAT_CHOICE),
    ],
)
def test_choices_run_as_what_torch_has(text, kernel):
    choice = parse_choice(text)
    assert BACKEND.runs_as(conv(), choice) == kernel
    reason = BACKEND.supports(conv(), choice)
    assert (reason is None) == (choice in (FLOAT_CHOICE, BFLOAT16))
    assert reason is None or "runs as fp32" in reason


def test_tensors_stay_in_the_kernels_type():
    assert BACKEND.edges(conv(), BFLOAT16) == ("bfloat16", "bfloat16")
    assert BACKEND.edges(conv(), FLOAT_CHOICE) == ("float32", "float32")


@pytest.mark.parametrize(
    "layer",
    [
        conv(), conv(op="conv1d"), conv(op="conv3d"), conv(cin=4, cout=8, groups=4),
        linear(rows=3), linear(rows=3, relu=True),
    ],
    ids=lambda layer: f"{layer.op}-{layer.groups}-{layer.fused_with}",
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_have_the_shapes_types_and_relu_of_their_key(layer, dtype):
    key = layer_key(BACKEND, layer, FLOAT_CHOICE, batch=2)
    generator = torch.Generator().manual_seed(0)
    x = entering(key, dtype, "cpu", generator)
    y = float_layer(key, dtype, "cpu", generator)(x)
    rows = 2 * layer.output_shape[0]
    assert y.shape == (rows, *layer.output_shape[1:])
    assert y.dtype == dtype
    assert bool((y >= 0).all()) == (layer.fused_with == "relu")


def test_transposed_layers_reach_their_output_shape():
    layer = torch.nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1)
    x = torch.randn(1, 4, 5, 5)
    from hw_profiles.profile import EntryKey

    key = EntryKey(
        "conv_transpose2d", (4, 6, 3, 3), (1, 4, 5, 5), tuple(layer(x).shape), (2, 2), (1, 1),
        (1, 1), weight_format="float32", activation_format="float32",
    )  # fmt: skip
    made = float_layer(key, torch.float32, "cpu", torch.Generator().manual_seed(0))
    assert made(x).shape == layer(x).shape


def test_every_copy_runs_once_a_call():
    key = layer_key(BACKEND, linear(cin=8, cout=8), FLOAT_CHOICE)
    calls = []
    plain = F.linear

    def counted(*args):
        calls.append(args[1].data_ptr())
        return plain(*args)

    built = build_key(key, 8 * 8 * 4 * 6, torch.Generator().manual_seed(0))
    F.linear = counted
    try:
        built.call()
    finally:
        F.linear = plain
    assert len(calls) == len(set(calls)) == built.copies == 6


def test_a_space_is_measured_conversions_included():
    space = space_of([conv(), linear()], ("bfloat16/bfloat16", "float32"))
    keys = required_keys(space, BACKEND)
    assert quantize_key(space.layers[0].input_shape, "bfloat16") in keys
    entries = measure_keys(keys, QUICK, 1 << 16, 0, lambda _: None)
    assert [entry.key for entry in entries] == keys
    assert all(entry.latency_ms > 0 and entry.reference_ms > 0 for entry in entries)
    assert {entry.kernel_ops[0] for entry in entries} >= {
        "aten::convolution bfloat16",
        "aten::linear float32",
        "aten::_to_copy",
    }
    assert torch.get_num_threads() >= 1


def test_whole_models_are_refused_with_a_way_out():
    with pytest.raises(UsageError, match="predictions stay unchecked") as caught:
        BACKEND.network(torch.nn.Identity(), (), torch.zeros(1))
    assert caught.value.fix == "hw=this"
