"""Which kernel a choice runs as on ONNX Runtime's CPU provider."""

import pytest

from hw_profiles.backends.onnxruntime_cpu.kernels import runs_as, supports
from spaces.choices import parse_choice
from tests.hw_profiles.layers import conv, linear

CONV, FC = conv(), linear()
TRANSPOSED = conv(op="conv_transpose2d", cin=4, cout=4)


@pytest.mark.parametrize(
    ("layer", "choice", "kernel", "genuine"),
    [
        (CONV, "float32", "float32/float32", True),
        (CONV, "int8sc/int8ut", "int8sc/int8ut", True),
        (CONV, "int8src/int8st", "int8sc/int8ut", True),
        (CONV, "int8st/int8ut", "int8sc/int8ut", True),
        (CONV, "int4sc/int8ut", "int8sc/int8ut", False),
        (CONV, "int8sc/int4ut", "int8sc/int8ut", False),
        (CONV, "int4sc", "float32/float32", False),
        (CONV, "int8sc/int8ut@dynamic", "float32/float32", False),
        (CONV, "int8uc/int8ut", "float32/float32", False),
        (CONV, "float16", "float32/float32", False),
        (TRANSPOSED, "int8sc/int8ut", "float32/float32", False),
        (FC, "int8sc/int8ut", "int8sc/int8ut", True),
        (FC, "int8sc/int8ut@dynamic", "int8sc/int8ut@dynamic", True),
        (FC, "int4sc/int8ut@dynamic", "int8sc/int8ut@dynamic", False),
        (FC, "int4sg128", "int4sg128/float32", True),
        (FC, "int4ug32", "int4ug32/float32", True),
        (FC, "int4src+gptq", "int4sg128/float32", True),
        (FC, "int4sg128/int8ut@dynamic", "int4sg128/float32", True),
        (FC, "int2sc", "int2sg128/float32", True),
        (FC, "int8sg64", "int8sg64/float32", True),
        (FC, "int3sc", "int4sg128/float32", False),
        (FC, "int6sc", "int8sg128/float32", False),
        (FC, "int4sg100", "float32/float32", False),
        (FC, "int4sg128/int8ut", "float32/float32", False),
        (FC, "bfloat16", "float32/float32", False),
    ],
)
def test_a_choice_runs_as(layer, choice, kernel, genuine):
    assert runs_as(layer, parse_choice(choice)).text == kernel
    assert (supports(layer, parse_choice(choice)) is None) is genuine


def test_a_kernel_choice_runs_as_itself():
    texts = ["float32", "int8sc/int8ut", "int8sc/int8ut@dynamic", "int4sg128", "int2sg128"]
    for text in texts:
        kernel = runs_as(FC, parse_choice(text))
        assert runs_as(FC, kernel) == kernel


def test_the_reason_names_what_runs_instead():
    assert supports(CONV, parse_choice("int4sc/int8ut")) == (
        "no w4a8 conv2d kernel in ONNX Runtime's CPU provider; runs as w8a8"
    )
