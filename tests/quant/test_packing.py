"""Packed codes come back exactly, take the promised bytes, and damage is told."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.codebook.huffman import huffman_bits
from quant.errors import DataError
from quant.packing import huffman_pack, huffman_unpack, pack, unpack


def test_codes_lie_lowest_bit_first():
    assert pack(np.array([1, 2, 3, 0]), 2).tolist() == [0b00111001]
    assert pack(np.array([5, 1]), 3).tolist() == [0b001101]
    assert pack(np.array([], int), 4).tolist() == []


@given(st.integers(1, 12), st.integers(0, 99), st.integers(0, 2**32 - 1))
def test_packing_round_trips_in_as_few_bytes_as_there_are_bits(bits, count, seed):
    codes = np.random.default_rng(seed).integers(0, 1 << bits, count)
    packed = pack(codes, bits)
    assert len(packed) == -(-count * bits // 8)
    assert np.array_equal(unpack(packed, bits, count), codes)


def test_codes_that_do_not_fit_are_refused():
    for codes in ([4], [-1]):
        with pytest.raises(ValueError, match="do not fit 2 bits"):
            pack(np.array(codes), 2)


def test_missing_bytes_are_told():
    with pytest.raises(DataError, match="hold 1 bytes"):
        unpack(np.zeros(1, np.uint8), 4, 3)


@given(st.integers(1, 8), st.integers(1, 300), st.floats(0.05, 3), st.integers(0, 2**32 - 1))
def test_huffman_words_round_trip_in_the_size_that_was_promised(bits, count, skew, seed):
    rng = np.random.default_rng(seed)
    share = np.exp(-skew * np.arange(1 << bits))
    codes = rng.choice(1 << bits, count, p=share / share.sum())
    codes -= codes.min()
    packed = huffman_pack(codes)
    symbols = int(codes.max()) + 1
    assert np.array_equal(huffman_unpack(packed, symbols, count), codes)
    promised = huffman_bits(torch.from_numpy(codes), 64)
    assert len(packed) == symbols + -(-(promised - 1 - 8 * symbols) // 8)


def test_one_symbol_and_torn_words():
    packed = huffman_pack(np.zeros(9, int))
    assert len(packed) == 1 + 2
    assert huffman_unpack(packed, 1, 9).tolist() == [0] * 9
    with pytest.raises(DataError, match="end after 8 of 9"):
        huffman_unpack(packed[:-1], 1, 9)
