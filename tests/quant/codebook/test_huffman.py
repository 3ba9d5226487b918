"""Huffman lengths against known codes and the entropy bound."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.codebook.huffman import code_lengths, huffman_bits

COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=16).filter(any)


def test_known_lengths():
    assert code_lengths([4, 2, 1, 1]) == [1, 2, 3, 3]
    assert code_lengths([0, 7, 0]) == [0, 1, 0]
    assert sorted(code_lengths([1, 1, 1, 1])) == [2, 2, 2, 2]


@given(COUNTS)
def test_lengths_form_a_code_within_one_bit_of_the_entropy(counts):
    lengths = code_lengths(counts)
    assert sum(2.0**-length for length in lengths if length) <= 1
    total = sum(counts)
    mean = sum(n * b for n, b in zip(counts, lengths, strict=True)) / total
    entropy = -sum(n / total * math.log2(n / total) for n in counts if n)
    assert entropy - 1e-9 <= mean <= entropy + 1


@given(st.lists(st.integers(-3, 4), max_size=60))
def test_never_more_than_plain_codes_and_a_flag(values):
    codes = torch.tensor(values, dtype=torch.int32)
    assert huffman_bits(codes, 3) <= (3 * len(values) + 1 if values else 0)


def test_skewed_codes_shrink():
    codes = torch.tensor([0] * 1000 + [5])
    assert huffman_bits(codes, 4) == 1 + 1001 + 6 * 8
