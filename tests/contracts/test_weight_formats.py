"""What every weight format owes a search: it changes the logits and its size is recorded."""

import math

import pytest
import torch

from hw_profiles.backends.onnxruntime_cpu.kernels import runs_as, supports
from hw_profiles.footprint import bops, size_bytes
from quant.errors import DataError, UsageError
from quant.method import Method
from quant.model import QuantizedModel
from spaces.choices import FLOAT_CHOICE, parse_choice
from tests.hw_profiles.layers import conv, linear
from tests.quant.models import residual_net

NAMES = ["0", "3.conv1", "3.conv2", "6"]
FORMATS = ["int4sc", "fp8e4m3c", "fp8e5m2", "fp4c", "nf4g64", "mxfp8", "mxfp6g16", "mxfp4"]
FORMATS += ["pot4c", "apot4c", "binaryc", "ternaryc", "km4", "km2c", "km3g20", "int4srn3"]
FORMATS += ["lv3c", "bc2c", "bcg3g20", "pwl4", "pwl3n3", "vq1d3", "pq1d2", "rpq1d2"]
LAYER = linear(cin=130, cout=16)  # 2,080 weights
CODES = {8: 2080, 6: 1560, 4: 1040, 3: 780, 2: 520, 1: 260}


@pytest.fixture(scope="module")
def quantized():
    images = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return QuantizedModel(residual_net(), NAMES, Method(), [images]), images


@pytest.mark.parametrize("text", FORMATS)
def test_a_weight_format_changes_the_logits_and_not_the_model(quantized, text):
    model, images = quantized
    with torch.no_grad():
        model.float_()
        exact = model(images)
        model.apply({name: parse_choice(text) for name in NAMES})
        rounded = model(images)
        model.float_()
        assert torch.equal(model(images), exact)
    assert bool(rounded.isfinite().all())
    assert not torch.equal(rounded, exact)
    assert model.weight_error(NAMES[1], parse_choice(text).weight) > 0


@pytest.mark.parametrize("text", ["fp8e4m3", "fp8e5m2@dynamic", "fp4", "pot4"])
def test_ranged_tables_serve_activations_too(quantized, text):
    model, images = quantized
    with torch.no_grad():
        model.float_()
        exact = model(images)
        model.apply({name: parse_choice(f"float32/{text}") for name in NAMES})
        assert not torch.equal(model(images), exact)


@pytest.mark.parametrize("text", ["km4", "binary", "ternary", "bc2", "pwl4", "vq2d4"])
def test_fitted_formats_are_refused_for_activations(quantized, text):
    with pytest.raises(UsageError, match="does not change"):
        quantized[0].apply({NAMES[0]: parse_choice(f"int8sc/{text}")})


@pytest.mark.parametrize("text", ["km4", "binaryc", "ternary", "bc2c", "lv3", "pwl4c", "vq2d4"])
def test_weights_that_are_not_finite_are_named(text):
    model = residual_net()
    with torch.no_grad():
        model[6].weight[0, 0] = math.nan
    with pytest.raises(DataError, match="'6'"):
        QuantizedModel(model, NAMES, Method(), [torch.randn(2, 1, 8, 8)])


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        ("fp8e4m3c", 16 * 4),
        ("nf4g64", 16 * 3 * 4),
        ("mxfp8", 16 * 5 * 1),
        ("mxfp6g16", 16 * 9 * 1),
        ("mxfp4", 16 * 5 * 1),
        ("pot4", 4),
        ("apot4c", 16 * 4),
        ("binaryc", 16 * 4),
        ("ternaryg100", 16 * 2 * 4),
        ("km4", 16 * 4),
        ("km2c", 16 * 4 * 4),
        ("int4srn5", 4 * 4),
        ("lv3c", 16 * 8 * 4),
        ("bc2c", 16 * 2 * 4),
        ("bcg3c", 16 * 3 * 4),
        ("pwl4c", 16 * 2 * 4),
    ],
)
def test_size_is_codes_and_what_a_slice_shares(text, shared):
    choice = parse_choice(text)
    assert size_bytes(LAYER, choice) == CODES[choice.weight.bits] + shared + 16 * 4


@pytest.mark.parametrize(
    ("text", "codes", "codebooks"),
    [
        # 130 inputs are 33 vectors of 4, 65 of 2: the last one is padded
        ("vq2d4", 16 * 33 * 4 * 2 // 8, 256 * 4 * 4),
        ("pq1d4", 16 * 33 * 4 * 1 // 8, 33 * 16 * 4 * 4),
        ("rpq2d2", 16 * 65 * 2 * 2 // 8, 65 * 2 * 4 * 2 * 4),
    ],
)
def test_size_of_vectors_is_their_codes_and_all_codebooks(text, codes, codebooks):
    assert size_bytes(LAYER, parse_choice(text)) == codes + codebooks + 16 * 4


def test_splitting_counts_the_inputs_it_adds():
    plain, split = parse_choice("int4src/int8ut"), parse_choice("int4src+split/int8ut")
    extra = 16 * 6  # 5 % of 130 inputs, rounded
    assert size_bytes(LAYER, split) == size_bytes(LAYER, plain) + extra * 4 // 8
    assert bops(LAYER, split) == bops(LAYER, plain) * 136 // 130
    assert runs_as(LAYER, split) == FLOAT_CHOICE


def test_a_scale_per_token_has_no_kernel():
    assert runs_as(LAYER, parse_choice("int8src/int8uk@dynamic")) == FLOAT_CHOICE


TABLES = [text for text in FORMATS if not text.startswith("int")]


@pytest.mark.parametrize("text", [*TABLES, "int8sc/fp8e4m3"])
@pytest.mark.parametrize("layer", [LAYER, conv()], ids=["linear", "conv"])
def test_tables_are_for_storage_and_run_as_float(layer, text):
    choice = parse_choice(text)
    assert runs_as(layer, choice) == FLOAT_CHOICE
    assert supports(layer, choice)
