"""Size and BOPs in closed form."""

import pytest

from hw_profiles.footprint import bops, peak_bytes, scale_count, size_bytes
from quant.formats import parse_format
from spaces.choices import parse_choice
from tests.hw_profiles.layers import conv, linear

CONV = conv(cin=4, cout=8, kernel=3, size=6)  # 288 weights, 10,368 MACs
FC = linear(cin=130, cout=16)  # 2,080 weights


@pytest.mark.parametrize(
    ("layer", "choice", "expected"),
    [
        (CONV, "float32", 288 * 4 + 8 * 4),
        (CONV, "float16", 288 * 2 + 8 * 4),
        (CONV, "int8sc/int8ut", 288 + 8 * 4 + 8 * 4),
        (CONV, "int8st/int8ut", 288 + 4 + 8 * 4),
        (CONV, "int4sc/int8ut", 144 + 8 * 4 + 8 * 4),
        (CONV, "int3sc/int8ut", 108 + 8 * 4 + 8 * 4),
        (CONV, "int4uc/int8ut", 144 + 8 * 4 + 4 + 8 * 4),
        (conv(bias=False), "int2sc/int8ut", 72 + 8 * 4),
        (FC, "int4sg128", 1040 + 16 * 2 * 4 + 16 * 4),
        (FC, "int4ug128", 1040 + 16 * 2 * 4 + 16 + 16 * 4),
    ],
)
def test_size_counts_codes_scales_zero_points_and_bias(layer, choice, expected):
    assert size_bytes(layer, parse_choice(choice)) == expected


def test_codes_are_rounded_up_to_whole_bytes():
    layer = linear(cin=3, cout=1)
    assert size_bytes(layer, parse_choice("int3st")) == 2 + 4 + 4


def test_scales_of_a_grouped_convolution_follow_its_inputs_per_channel():
    depthwise = conv(cin=8, cout=8, groups=8)
    assert scale_count(depthwise, parse_format("int4sg8")) == 8 * 2
    assert scale_count(depthwise, parse_format("int4sc")) == 8
    assert scale_count(depthwise, parse_format("float32")) == 0


def test_bops_are_macs_times_both_widths():
    assert CONV.macs == 8 * 4 * 9 * 36
    assert bops(CONV, parse_choice("int4sc/int8ut")) == CONV.macs * 32
    assert bops(CONV, parse_choice("float32")) == CONV.macs * 1024


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("float32", 4 * 432), ("int8sc/int8ut", 432), ("int8sc/int4ut", 216), ("int4sc", 4 * 432)],
)
def test_a_layer_holds_what_enters_and_what_leaves_it(choice, expected):
    # 4 x 6 x 6 values in and 8 x 6 x 6 out, at the width of the layer's inputs.
    assert peak_bytes(CONV, parse_choice(choice)) == expected
