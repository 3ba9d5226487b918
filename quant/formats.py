"""Number formats: how one tensor is stored and computed, and their text form.

Grammar (whitespace is not allowed)::

    format  = "float32" | "float16" | "bfloat16"
            | "int" bits [scheme] [granularity] ["@" timing]
            | levels [granularity] ["@" timing]
            | vectors bits "d" dim
    levels  = "fp8e4m3" | "fp8e5m2" | "fp4" | "nf4"  a table of floating levels times a scale
            | "mxfp8" | "mxfp6" | "mxfp4"            one power-of-two scale per group
            | "pot" bits | "apot" bits               powers of two, sums of them; bits 2 .. 8
            | "binary" | "ternary"                   {-1, 1}, {-1, 0, 1} times a fitted scale
            | "km" bits | "lv" bits                  2^bits values: by k-means, by gradient
            | "bc" bits | "bcg" bits                 sums of +-alpha_i: alternating, greedy fit
            | "pwl" bits                             uniform, finer in the centre than in the tails
    vectors = "vq" | "pq" | "rpq"                    dim weights share a code of dim * bits bits;
                                                     one codebook, one per place, two stages
    bits    = 2 .. 8; of vectors 1 .. 8 with at most 2^12 code words
    scheme  = "s"  symmetric, full range        q in [-2^(b-1), 2^(b-1)-1]
            | "sr" symmetric, restricted range  q in [-(2^(b-1)-1), 2^(b-1)-1]
            | "u"  asymmetric (zero point)      q in [0, 2^b-1]
    granularity = "t" one scale per tensor | "c" per output channel | "g" N per group of N weights
                of one channel | "n" N per N output channels | "k" per token (dynamic activations)
    timing  = "static" ranges from calibration | "dynamic" ranges from each batch (activations)

Omitted parts mean ``s``, ``t`` and ``@static``; ``mxfp*`` always has groups, of 32 where no size
is given. ``int4sg128`` is a 4-bit symmetric weight with
one scale per 128 inputs; ``int8ut@dynamic`` an 8-bit activation whose range is found at run
time; ``km4c`` a 4-bit codebook per output channel. Definitions follow Gholami et al., arXiv
2103.13630, section III; the levels are those of :mod:`quant.levels`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from quant.errors import UsageError, nearest

MIN_BITS, MAX_BITS = 2, 8
FLOAT_BITS = {"float32": 32, "float16": 16, "bfloat16": 16}

NAMED_BITS = {
    "fp8e4m3": 8,
    "fp8e5m2": 8,
    "fp4": 4,
    "nf4": 4,
    "mxfp8": 8,
    "mxfp6": 6,
    "mxfp4": 4,
    "binary": 1,
    "ternary": 2,
}
SIZED = ("pot", "apot", "km", "lv", "bc", "bcg", "pwl")
VECTORS = ("vq", "pq", "rpq")
FITTED = ("binary", "ternary", "km", "lv", "bc", "bcg", "pwl", *VECTORS)
MAX_WORD_BITS = 12
MX_GROUP = 32
SCALE_BITS, MX_SCALE_BITS, LEVEL_BITS = 32, 8, 32

_PARTS = r"(?P<gran>t|c|k|[gn](?P<group>\d+))?(@(?P<timing>\w+))?"
_INT = re.compile(r"(?P<kind>int)(?P<bits>\d+)(?P<scheme>sr|s|u)?" + _PARTS)
_NAMED = re.compile(f"(?P<kind>{'|'.join(NAMED_BITS)})" + _PARTS)
_SIZED = re.compile(f"(?P<kind>{'|'.join(SIZED)})(?P<bits>\\d+)" + _PARTS)
_VECTOR = re.compile(f"(?P<kind>{'|'.join(VECTORS)})(?P<bits>\\d+)d(?P<dim>\\d+)")


# Numbers a slice stores besides its codes: levels, bases, or breakpoint and peak.
_SHARED_NUMBERS: dict[str, Callable[[int], int]] = {
    "km": lambda bits: 1 << bits,
    "lv": lambda bits: 1 << bits,
    "bc": lambda bits: bits,
    "bcg": lambda bits: bits,
    "pwl": lambda _: 2,
}


class Scheme(StrEnum):
    """Which integers a format uses and whether zero is shifted."""

    SYMMETRIC = "s"
    RESTRICTED = "sr"
    ASYMMETRIC = "u"


class Granularity(StrEnum):
    """How many weights share one scale.

    GROUP is the sub-channel granularity of the survey, ROWS its group of output channels.
    """

    TENSOR = "t"
    CHANNEL = "c"
    GROUP = "g"
    ROWS = "n"
    TOKEN = "k"


class Timing(StrEnum):
    """When an activation's range is found."""

    STATIC = "static"
    DYNAMIC = "dynamic"


@dataclass(frozen=True, slots=True)
class Format:
    """One tensor's number format.

    Attributes:
        kind: ``"int"``, the name of a float type, or the name of a table of levels.
        bits: storage width of one element, without scales and codebooks.
        scheme: integer range and symmetry (ignored for float kinds).
        granularity: what shares one scale (ignored for float kinds).
        group_size: weights per scale when ``granularity`` is GROUP, output channels per scale
            when it is ROWS, else 0.
        timing: static or dynamic range (activations only).
        dim: weights that share one code; more than 1 for vector formats only.
    """

    kind: str
    bits: int
    scheme: Scheme = Scheme.SYMMETRIC
    granularity: Granularity = Granularity.TENSOR
    group_size: int = 0
    timing: Timing = Timing.STATIC
    dim: int = 1

    @property
    def is_float(self) -> bool:
        """True for the plain float types, which have no scale."""
        return self.kind in FLOAT_BITS

    @property
    def has_levels(self) -> bool:
        """True for formats that store places in a table of levels."""
        return self.kind != "int" and not self.is_float

    @property
    def is_fitted(self) -> bool:
        """True when scale or levels are fitted to the tensor, without a range."""
        return self.kind in FITTED

    @property
    def is_vector(self) -> bool:
        """True for formats whose codes stand for several weights at once."""
        return self.kind in VECTORS

    @property
    def stages(self) -> int:
        """Codebooks whose words are summed: 2 for residual formats, else 1."""
        return 2 if self.kind == "rpq" else 1

    @property
    def words(self) -> int:
        """Code words of one codebook of a vector format."""
        return 1 << (self.bits * self.dim // self.stages)

    @property
    def is_mx(self) -> bool:
        """True for block formats with a shared power-of-two scale."""
        return self.kind.startswith("mx")

    @property
    def scale_bits(self) -> int:
        """Bits stored once per slice: scale, zero point and codebook; 0 for float formats."""
        if self.is_float:
            return 0
        if self.is_vector:
            return self.stages * self.words * self.dim * LEVEL_BITS
        if self.kind in _SHARED_NUMBERS:
            return LEVEL_BITS * _SHARED_NUMBERS[self.kind](self.bits)
        zero_point = self.bits if self.scheme is Scheme.ASYMMETRIC else 0
        return (MX_SCALE_BITS if self.is_mx else SCALE_BITS) + zero_point

    @property
    def qmin(self) -> int:
        """Smallest integer code; places in a table count from 0."""
        if self.has_levels or self.scheme is Scheme.ASYMMETRIC:
            return 0
        full = -(1 << (self.bits - 1))
        return full + 1 if self.scheme is Scheme.RESTRICTED else full

    @property
    def qmax(self) -> int:
        """Largest integer code; of a table whose level count is no power of two, a bound."""
        if self.has_levels or self.scheme is Scheme.ASYMMETRIC:
            return (1 << self.bits) - 1
        return (1 << (self.bits - 1)) - 1

    def with_bits(self, bits: int) -> Format:
        """Returns the same format at another width."""
        return parse_format(str(replace(self, bits=bits)))

    def __str__(self) -> str:
        if self.is_float:
            return self.kind
        if self.is_vector:
            return f"{self.kind}{self.bits}d{self.dim}"
        group = str(self.group_size) if self.group_size else ""
        timing = "@dynamic" if self.timing is Timing.DYNAMIC else ""
        width = "" if self.kind in NAMED_BITS else self.bits
        scheme = self.scheme if self.kind == "int" else ""
        return f"{self.kind}{width}{scheme}{self.granularity}{group}{timing}"


FLOAT32 = Format("float32", 32)


@lru_cache(maxsize=4096)
def parse_format(text: str) -> Format:
    """Reads a format's text form; the inverse of ``str(format)``.

    Raises:
        UsageError: the text is outside the grammar above or its bits are outside 2..8.
    """
    if text in FLOAT_BITS:
        return Format(text, FLOAT_BITS[text])
    vector = _VECTOR.fullmatch(text)
    if vector is not None:
        return _vector(text, vector["kind"], int(vector["bits"]), int(vector["dim"]))
    match = _INT.fullmatch(text) or _NAMED.fullmatch(text) or _SIZED.fullmatch(text)
    if match is None:
        raise _bad_format(text, "not a number format")
    kind, parts = match["kind"], match.groupdict()
    bits = NAMED_BITS[kind] if kind in NAMED_BITS else int(parts["bits"])
    if kind not in NAMED_BITS and not MIN_BITS <= bits <= MAX_BITS:
        raise _bad_format(text, f"{bits} bits is out of range")
    granularity, group_size = _slices(text, kind, parts["gran"] or "", parts["group"] or "")
    try:
        timing = Timing(parts["timing"] or "static")
    except ValueError:
        raise _bad_format(text, f"unknown timing '@{parts['timing']}'") from None
    scheme = Scheme(parts.get("scheme") or "s")
    if granularity is Granularity.TOKEN and timing is not Timing.DYNAMIC:
        raise _bad_format(text, "a token's range is known at run time only; append '@dynamic'")
    return Format(kind, bits, scheme, granularity, group_size, timing)


def _vector(text: str, kind: str, bits: int, dim: int) -> Format:
    """A vector format, its codebook small enough to be searched."""
    fmt = Format(kind, bits, dim=dim)
    if not 1 <= bits <= MAX_BITS or not dim >= 1 or bits * dim > MAX_WORD_BITS:
        raise _bad_format(text, f"2^{bits * dim} code words are out of range")
    if bits * dim % fmt.stages:
        raise _bad_format(text, f"{bits * dim} bits do not divide into {fmt.stages} stages")
    return fmt


def _slices(text: str, kind: str, granularity: str, size: str) -> tuple[Granularity, int]:
    """Granularity and group size of a format's text."""
    if kind.startswith("mx"):
        if granularity[:1] not in ("", "g"):
            raise _bad_format(text, "a block format shares its scale within groups only")
        granularity, size = "g", size or str(MX_GROUP)
    result = Granularity((granularity or "t")[0])
    if result in (Granularity.GROUP, Granularity.ROWS) and int(size) < 1:
        raise _bad_format(text, "group size must be at least 1")
    return result, int(size or 0)


def _bad_format(text: str, why: str) -> UsageError:
    sized = [f"{kind}{bits}" for kind in ("int", *SIZED) for bits in range(MIN_BITS, MAX_BITS + 1)]
    known = [*FLOAT_BITS, *NAMED_BITS, *sized]
    return UsageError(
        f"format '{text}': {why}",
        expected="float32, float16, bfloat16, or int2..int8 with optional s|sr|u, t|c|gN|nN, "
        "@static|@dynamic (for example int4sg128, int8ut@dynamic); or one of "
        f"{', '.join(NAMED_BITS)}, pot4, apot4, km4, lv4, bc3, bcg3, pwl4 "
        "with optional t|c|gN|nN; or vq2d4, pq2d4, rpq2d4",
        fix=nearest(text, known) or "write for example int8sc",
    )
