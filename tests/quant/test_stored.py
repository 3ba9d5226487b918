"""Stored weights come back exactly, in the bytes that costs count."""

import math

import pytest
import torch
from torch import nn

from hw_profiles.footprint import size_bytes
from quant.calibration import MinMax
from quant.errors import DataError
from quant.formats import parse_format
from quant.slices import SliceLayout
from quant.stored import StoredWeight, load, store
from quant.weights import weight_quantizer
from spaces.choices import parse_choice
from tests.hw_profiles.layers import conv, linear

FORMATS = (
    *("int2src", "int3sc", "int4st", "int4uc", "int5sg16", "int3ug10", "int8n3", "int4un3"),
    *("fp8e4m3c", "fp4c", "nf4g16", "mxfp4", "mxfp8", "pot3c", "apot4t", "binaryc", "ternaryg8"),
    *("km3c", "lv2t", "bc2c", "bcg3t", "pwl4c", "vq2d4", "pq1d4", "rpq2d4"),
)


def rounded(text, spec):
    """A weight of a layer rounded to a format, and its quantizer."""
    fmt = parse_format(text)
    torch.manual_seed(0)
    module = nn.Linear(*reversed(spec.weight_shape)) if spec.op == "linear" else nn.Conv2d(4, 8, 3)
    layout = SliceLayout.of(module, fmt.granularity, fmt.group_size)
    weight = module.weight.detach().clone()
    weight[0] = 0  # a slice without any weight
    quantizer = weight_quantizer(weight, layout, fmt, MinMax())
    return quantizer(weight), quantizer, fmt


@pytest.mark.parametrize("spec", [linear(cin=36, cout=8), conv()], ids=["linear", "conv"])
@pytest.mark.parametrize("text", FORMATS)
def test_every_format_comes_back_in_the_bytes_that_are_counted(text, spec):
    weight, quantizer, fmt = rounded(text, spec)
    stored = store(weight, quantizer, fmt)
    assert "weight" not in stored.tensors, "packed, not kept as floats"
    assert torch.allclose(load(stored), weight, rtol=1e-6, atol=1e-8)
    counted = size_bytes(spec, parse_choice(f"{text}/float32")) - 4 * spec.out_channels
    # Codes, scales and zero points each end on a whole byte.
    assert 0 <= stored.nbytes - counted <= 1


@pytest.mark.parametrize("text", ["int2src", "int4sc", "nf4c", "vq2d4"])
def test_huffman_words_are_used_where_they_are_shorter(text):
    spec = conv()
    weight, quantizer, fmt = rounded(text, spec)
    plain, coded = store(weight, quantizer, fmt), store(weight, quantizer, fmt, coded=True)
    assert coded.nbytes <= plain.nbytes
    assert ("huffman" in coded.meta) == (coded.nbytes < plain.nbytes)
    assert torch.equal(load(coded), load(plain))


def test_weights_without_codes_are_kept_as_floats():
    weight, quantizer, fmt = rounded("int4sc", conv())
    stored = store(weight + 0.3 * quantizer.qparams.scale[:, :, None, None], quantizer, fmt)
    assert stored.meta["off_grid"]
    assert stored.nbytes == 4 * weight.numel()
    half = store(weight, None, parse_format("float16"))
    assert half.nbytes == 2 * math.prod(weight.shape)
    assert torch.allclose(load(half), weight, rtol=1e-3)


def test_damage_is_told():
    weight, quantizer, fmt = rounded("int4sc", conv())
    stored = store(weight, quantizer, fmt)
    short = StoredWeight({**stored.tensors, "codes": stored.tensors["codes"][:-1]}, stored.meta)
    with pytest.raises(DataError, match="packed codes hold"):
        load(short)
    with pytest.raises(DataError, match="cannot be read"):
        load(StoredWeight({"codes": stored.tensors["codes"]}, stored.meta))
