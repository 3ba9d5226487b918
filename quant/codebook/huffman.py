"""Huffman-coded size of a layer's codes (Han et al., Deep Compression, arXiv 1510.00149).

Frequent codes get short words; the mean length lies within one bit above the entropy.
"""

from __future__ import annotations

import heapq

import torch
from torch import Tensor


def code_lengths(counts: list[int]) -> list[int]:
    """Bits of every symbol's code word, 0 for symbols that do not occur; one symbol takes 1."""
    heap = [(count, symbol, [symbol]) for symbol, count in enumerate(counts) if count]
    lengths = [0] * len(counts)
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        first, second = heapq.heappop(heap), heapq.heappop(heap)
        members = first[2] + second[2]
        for symbol in members:
            lengths[symbol] += 1
        heapq.heappush(heap, (first[0] + second[0], min(first[1], second[1]), members))
    return lengths


def huffman_bits(codes: Tensor, bits: int) -> int:
    """Bits of ``codes`` in their own Huffman code, its table of lengths included.

    The table is canonical: one 8-bit length for every code from the smallest to the largest.

    Args:
        codes: integers, any shape.
        bits: width of one code without Huffman; the result is never above ``n * bits`` plus one
            bit that says which of the two is stored.
    """
    if codes.numel() == 0:
        return 0
    values = codes.detach().reshape(-1).long()
    counts = torch.bincount(values - values.min()).tolist()
    words = sum(n * length for n, length in zip(counts, code_lengths(counts), strict=True))
    return int(1 + min(words + 8 * len(counts), codes.numel() * bits))
