"""Integer codes as bytes: fixed widths of 1 to 16 bits, lowest bit first, and Huffman words."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from quant.codebook.huffman import code_lengths
from quant.errors import DataError

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]


def pack(codes: Array, bits: int) -> Bytes:
    """Bytes of codes ``0 .. 2^bits - 1``, any shape; ``ceil(n * bits / 8)`` of them.

    Raises:
        ValueError: a code needs more than ``bits`` bits.
    """
    flat = np.asarray(codes).reshape(-1).astype(np.int64)
    if flat.size and (flat.min() < 0 or flat.max() >= 1 << bits):
        msg = f"codes {flat.min()}..{flat.max()} do not fit {bits} bits"
        raise ValueError(msg)
    spread = (flat[:, None] >> np.arange(bits)) & 1
    return np.packbits(spread.astype(np.uint8).reshape(-1), bitorder="little")


def unpack(packed: Bytes, bits: int, count: int) -> npt.NDArray[np.int64]:
    """The first ``count`` codes of :func:`pack`.

    Raises:
        DataError: there are not as many bytes as that takes.
    """
    if len(packed) != -(-count * bits // 8):
        raise DataError(
            f"packed codes hold {len(packed)} bytes",
            expected=f"{-(-count * bits // 8)} for {count} codes of {bits} bits",
            fix="export the policy again; the file is damaged",
        )
    spread = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    codes: npt.NDArray[np.int64] = (spread.astype(np.int64) << np.arange(bits)).sum(axis=1)
    return codes


def huffman_pack(codes: Array) -> Bytes:
    """Canonical Huffman words of codes from 0 up: a byte of length per code, then the words.

    Words never outgrow a machine word: one of 64 bits takes more codes than memory holds.
    """
    flat = np.asarray(codes).reshape(-1).astype(np.int64)
    counts = np.bincount(flat) if flat.size else np.zeros(1, np.int64)
    lengths = np.array(code_lengths(counts.tolist()), dtype=np.int64)
    words, sizes = _canonical(lengths)[flat], lengths[flat]
    ends = np.cumsum(sizes)
    bits = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
    for place in range(int(lengths.max())):
        long = sizes > place
        # Most significant bit first, so that a decoder can walk down the tree.
        bits[(ends - sizes)[long] + place] = (words[long] >> (sizes[long] - 1 - place)) & 1
    return np.concatenate([lengths.astype(np.uint8), np.packbits(bits)])


def huffman_unpack(packed: Bytes, symbols: int, count: int) -> npt.NDArray[np.int64]:
    """The ``count`` codes of :func:`huffman_pack`, which knew ``symbols`` different ones.

    Raises:
        DataError: the bytes end early or spell no word.
    """
    lengths = packed[:symbols].astype(np.int64)
    words = _canonical(lengths)
    known = {(int(n), int(w)): s for s, (n, w) in enumerate(zip(lengths, words, strict=True)) if n}
    longest = int(lengths.max(initial=0))
    found = np.empty(count, np.int64)
    bits = iter(np.unpackbits(packed[symbols:]).tolist())
    for index in range(count):
        word, length = 0, 0
        while (symbol := known.get((length, word))) is None:
            bit = next(bits, None)
            if bit is None or length > longest:
                raise DataError(
                    f"Huffman words end after {index} of {count} codes",
                    fix="export the policy again; the file is damaged",
                )
            word, length = word << 1 | bit, length + 1
        found[index] = symbol
    return found


def _canonical(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Words of the canonical code: by length, then by symbol, counting up."""
    words = np.zeros(len(lengths), np.int64)
    word, last = 0, 0
    for symbol in np.lexsort((np.arange(len(lengths)), lengths)):
        length = int(lengths[symbol])
        if length:
            word <<= length - last
            words[symbol], last = word, length
            word += 1
    return words
