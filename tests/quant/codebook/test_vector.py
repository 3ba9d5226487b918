"""Vector, product and residual product quantization."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from quant.codebook.kmeans import lloyd
from quant.codebook.vector import kmeans_vectors, nearest_word, vector_quantizer
from quant.errors import UsageError
from quant.formats import parse_format
from quant.levels import nearest_level, pick_level
from quant.slices import SliceLayout

LAYERS = [nn.Linear(13, 6), nn.Conv2d(4, 6, 3), nn.ConvTranspose2d(4, 6, 3, groups=2)]
FORMATS = ["vq2d4", "pq1d4", "rpq2d2", "vq1d1"]


def quantizer(layer, text, importance=None):
    fmt = parse_format(text)
    return vector_quantizer(layer.weight.detach(), SliceLayout.of(layer), fmt, importance)


@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("layer", LAYERS, ids=["linear", "conv", "transposed"])
def test_codes_decode_to_the_rounded_weight_and_rounding_twice_is_once(layer, text):
    q = quantizer(layer, text)
    rounded = q(layer.weight.detach())
    assert rounded.shape == layer.weight.shape
    codes = q.codes(layer.weight.detach())
    assert 0 <= codes.min() <= codes.max() < q.fmt.words
    torch.testing.assert_close(q.decode(codes), rounded)
    if q.fmt.stages == 1:  # greedy stages need not find their own sum again
        torch.testing.assert_close(q(rounded), rounded)


def test_the_gradient_passes_straight_through():
    layer = nn.Linear(8, 4)
    weight = layer.weight.detach().clone().requires_grad_()
    quantizer(layer, "vq2d2")(weight).sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))


def test_one_weight_per_vector_is_scalar_kmeans():
    x = torch.randn(1, 40, generator=torch.Generator().manual_seed(0))
    words = kmeans_vectors(x[..., None], torch.ones_like(x), 4, rounds=200)
    levels = lloyd(x, torch.ones_like(x), 4, rounds=200)

    def error(values):
        ordered = values.sort(dim=1).values.contiguous()
        return (pick_level(ordered, nearest_level(x, ordered)) - x).square().sum()

    torch.testing.assert_close(error(words[..., 0]), error(levels), rtol=0.2, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(hnp.arrays("float32", (2, 12, 3), elements=st.floats(-10, 10, width=16)))
def test_lloyd_never_increases_the_error(values):
    x = torch.from_numpy(values)
    ones = torch.ones(x.shape[:2])
    losses = []
    for rounds in (0, 1, 3, 10):
        words = kmeans_vectors(x, ones, 4, rounds)
        near = words.gather(1, nearest_word(x, words)[..., None].expand_as(x))
        losses.append((near - x).double().square().sum().item())
    slack = 1e-3 * (1 + losses[0])
    assert all(b <= a + slack for a, b in itertools.pairwise(losses))


def test_the_second_stage_never_adds_to_the_error_and_product_beats_one_codebook():
    layer = nn.Linear(32, 64)
    errors = {}
    for text in ("vq2d2", "pq2d2", "rpq4d2"):
        rounded = quantizer(layer, text)(layer.weight.detach())
        errors[text] = (rounded - layer.weight).square().sum().item()
    assert errors["rpq4d2"] < errors["pq2d2"]  # the same first stage, then what is left
    assert errors["pq2d2"] < errors["vq2d2"]


def test_importance_pulls_the_words():
    layer = nn.Linear(4, 32)
    importance = torch.ones_like(layer.weight)
    importance[:4] = 1000.0
    errors = [
        (quantizer(layer, "vq1d4", given)(layer.weight.detach()) - layer.weight)[:4].square().sum()
        for given in (importance, None)
    ]
    assert errors[0] < errors[1]


def test_as_many_words_as_vectors_is_exact():
    layer = nn.Linear(4, 4)
    rounded = quantizer(layer, "vq2d2")(layer.weight.detach())
    torch.testing.assert_close(rounded, layer.weight.detach())


@pytest.mark.parametrize("text", ["vq8d4", "vq0d4", "pq9d1", "vq4d0"])
def test_codebooks_out_of_range_are_refused(text):
    with pytest.raises(UsageError, match="code words are out of range"):
        parse_format(text)


def test_stages_need_whole_bits():
    with pytest.raises(UsageError, match="do not divide into 2 stages"):
        parse_format("rpq1d3")
