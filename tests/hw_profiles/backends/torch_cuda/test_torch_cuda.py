import pytest
import torch

from hw_profiles.backends import load_backend
from hw_profiles.backends.torch_cuda import TorchCuda
from hw_profiles.backends.torch_cuda.kernels import Kernel, kernel_of, runs_as, supports
from hw_profiles.hw import HwConfig
from hw_profiles.keys import required_keys
from hw_profiles.timing import Protocol
from quant.errors import UsageError
from spaces.choices import parse_choice
from tests.hw_profiles.layers import conv, linear, space_of

HOPPER, AMPERE, VOLTA = (9, 0), (8, 0), (7, 0)
WIDE = linear(cin=256, cout=64, rows=32)
needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")


@pytest.mark.parametrize(
    ("layer", "text", "card", "family"),
    [
        (conv(), "float32", HOPPER, Kernel.FLOAT32),
        (conv(), "float16/float16", VOLTA, Kernel.FLOAT16),
        (conv(), "bfloat16/bfloat16", HOPPER, Kernel.BFLOAT16),
        (conv(), "int8sc/int8ut", HOPPER, Kernel.BFLOAT16),
        (WIDE, "int8sc/int8st", HOPPER, Kernel.INT8),
        (WIDE, "int4sc/int8st", HOPPER, Kernel.INT8),
        (linear(cin=256, cout=64, rows=1), "int8sc/int8st", HOPPER, Kernel.BFLOAT16),
        (linear(cin=250, cout=64, rows=32), "int8sc/int8st", HOPPER, Kernel.BFLOAT16),
        (WIDE, "fp8e4m3t/fp8e4m3t", HOPPER, Kernel.FP8),
        (WIDE, "fp8e4m3t/fp8e4m3t", AMPERE, Kernel.FLOAT16),
        (WIDE, "int4ug128/float32", HOPPER, Kernel.INT4),
        (WIDE, "int4ug128/float32", VOLTA, Kernel.FLOAT16),
        (WIDE, "int4ug16/float32", HOPPER, Kernel.BFLOAT16),
        (WIDE, "nf4c/float32", HOPPER, Kernel.BFLOAT16),
    ],
)
def test_choices_run_as_what_the_card_has(layer, text, card, family):
    assert kernel_of(runs_as(layer, parse_choice(text), card)) is family


def test_what_is_stored_only_says_so():
    reason = supports(WIDE, parse_choice("int4sc/int8st"), HOPPER)
    assert "w4a8 linear" in reason
    assert "compute capability 9.0" in reason
    assert "runs as w8a8" in reason
    assert supports(WIDE, parse_choice("int8sc/int8st"), HOPPER) is None


def test_the_device_is_the_card():
    device = TorchCuda(Protocol(), capability=(9, 0), card="NVIDIA H200").device
    assert device.name == "NVIDIA H200"
    assert device.cpu_flags == ("sm_90",)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an NVIDIA GPU")
def test_without_a_card_it_is_refused():
    with pytest.raises(UsageError, match="there is no NVIDIA GPU"):
        load_backend(HwConfig("gpu", "torch_cuda"))


@needs_card
def test_a_space_is_measured_on_the_card():
    backend = load_backend(HwConfig("gpu", "torch_cuda"))
    choices = ("float16/float16", "bfloat16/bfloat16", "int8sc/int8st", "fp8e4m3t/fp8e4m3t")
    space = space_of([conv(), WIDE], (*choices, "int4ug128/float32"), extra=("float32",))
    keys = required_keys(space, backend)
    entries = backend.measure(keys, lambda _: None).entries
    assert [entry.key for entry in entries] == keys
    assert all(entry.latency_ms > 0 for entry in entries)
