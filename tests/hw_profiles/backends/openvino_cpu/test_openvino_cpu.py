import numpy as np
import pytest

from hw_profiles.backends import load_backend
from hw_profiles.hw import HwConfig
from hw_profiles.keys import layer_key, quantize_key, required_keys
from hw_profiles.timing import Protocol
from quant.errors import UsageError
from spaces.choices import parse_choice
from tests.hw_profiles.layers import conv, linear, space_of

ov = pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")

from hw_profiles.backends.openvino_cpu.lower import example_input, kernel_model  # noqa: E402
from hw_profiles.backends.openvino_cpu.measure import (  # noqa: E402
    build_key,
    kernel_share,
    measure_keys,
)

BACKEND = load_backend(HwConfig("openvino", "openvino_cpu"))
QUICK = Protocol(rounds=2, warmup=1, block_ms=0.02)


@pytest.fixture(scope="module")
def core():
    return ov.Core()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("layer", "text", "runs"),
    [
        (conv(), "float32", "float32/float32"),
        (conv(), "bfloat16/bfloat16", "bfloat16/bfloat16"),
        (conv(), "int8src/int8ut", "int8sc/int8ut"),
        (conv(), "int4src/int8ut", "int8sc/int8ut"),
        (conv(), "int4sc/float32", "float32/float32"),
        (conv(), "int8uc/int8ut", "float32/float32"),
        (linear(cin=256), "int4sg128/float32", "int4sg128/float32"),
        (linear(cin=256), "int2sg128/float32", "int4sg128/float32"),
        (linear(cin=250), "int4sg128/float32", "float32/float32"),
        (linear(), "int4sc/float32", "int4sc/float32"),
        (linear(), "int8sc/int8ut@dynamic", "float32/float32"),
        (linear(), "nf4c/float32", "float32/float32"),
    ],
)
def test_choices_run_as_what_the_plugin_has(layer, text, runs):
    choice = parse_choice(text)
    assert BACKEND.runs_as(layer, choice).text == runs
    genuine = BACKEND.supports(layer, choice) is None
    kernel = BACKEND.runs_as(layer, choice)
    assert genuine == (kernel.label == choice.label)


@pytest.mark.parametrize(
    ("layer", "text", "precision"),
    [
        (conv(cin=16, cout=16), "float32", {"f32"}),
        (conv(cin=16, cout=16), "int8sc/int8ut", {"I8"}),
        (conv(cin=16, cout=16, groups=16), "int8sc/int8ut", {"I8"}),
        (conv(cin=16, cout=16, op="conv1d"), "float32", {"f32"}),
        (linear(cin=64, cout=32, rows=4), "int8sc/int8ut", {"I8"}),
    ],
)
def test_the_runtime_graph_names_the_kernel(core, rng, layer, text, precision):
    built = build_key(core, layer_key(BACKEND, layer, parse_choice(text)), 2, rng)
    assert built.genuine
    kind = "FullyConnected" if layer.op == "linear" else "Convolution"
    named = [op for op in built.ops if op.startswith(kind)]
    assert named, built.ops
    assert all(any(mark in op for mark in precision) for op in named)
    assert not any(op.startswith("Reorder") for op in built.ops)
    assert 0 < built.share <= 1
    built.call()


@pytest.mark.parametrize("text", ["int4sg128/float32", "int4ug128/float32", "int8sc/float32"])
def test_packed_weights_are_unpacked_inside_the_kernel(core, rng, text):
    key = layer_key(BACKEND, linear(cin=256, cout=64), parse_choice(text))
    built = build_key(core, key, 2, rng)
    assert built.genuine, built.ops
    assert any(op.startswith("FullyConnected") for op in built.ops)


def test_bfloat16_is_genuine_only_where_the_cpu_has_it(core, rng):
    key = layer_key(BACKEND, conv(cin=16, cout=16), parse_choice("bfloat16/bfloat16"))
    from hw_profiles.device import this_device

    has = {"avx512_bf16", "amx_bf16"} & set(this_device().cpu_flags)
    assert build_key(core, key, 1, rng).genuine == bool(has)


def test_copies_of_a_conversion_are_not_merged(core, rng):
    key = quantize_key((1, 8, 4, 4), "uint8")
    model = kernel_model(key, 4, rng)
    compiled = core.compile_model(model, "CPU")
    outputs = compiled(example_input(key, rng))
    assert len(outputs) == 4
    from hw_profiles.backends.openvino_cpu.measure import executed

    assert len(executed(compiled)) >= 4


def test_linear_layers_have_no_layout_to_convert(core, rng):
    key = layer_key(BACKEND, linear(cin=64, cout=64, rows=8), parse_choice("float32"))
    assert kernel_share(core, kernel_model(key, 2, rng), "f32", example_input(key, rng)) == 1.0


def test_a_space_is_measured():
    space = space_of([conv(cin=16, cout=16), linear()], ("int8sc/int8ut", "float32"))
    keys = required_keys(space, BACKEND)
    entries = measure_keys(keys, QUICK, 1 << 16, 0, lambda _: None)
    assert [entry.key for entry in entries] == keys
    assert all(entry.latency_ms > 0 and entry.genuine for entry in entries)


def test_a_missing_extra_is_named(monkeypatch):
    import builtins

    plain = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "openvino":
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match="OpenVINO is not installed") as caught:
        load_backend(HwConfig("openvino", "openvino_cpu"))
    assert "bitfront[openvino]" in caught.value.fix
