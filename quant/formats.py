"""Number formats: how one tensor is stored and computed, and their text form.

Grammar (whitespace is not allowed)::

    format  = "float32" | "float16" | "bfloat16"
            | "int" bits [scheme] [granularity] ["@" timing]
            | levels [granularity] ["@" timing]
    levels  = "fp8e4m3" | "fp8e5m2" | "fp4" | "nf4"  a table of floating levels times a scale
            | "mxfp8" | "mxfp6" | "mxfp4"            one power-of-two scale per group
            | "pot" bits | "apot" bits               powers of two, sums of them; bits 2 .. 8
            | "binary" | "ternary"                   {-1, 1}, {-1, 0, 1} times a fitted scale
            | "km" bits                              a k-means codebook of 2^bits values
    bits    = 2 .. 8
    scheme  = "s"  symmetric, full range        q in [-2^(b-1), 2^(b-1)-1]
            | "sr" symmetric, restricted range  q in [-(2^(b-1)-1), 2^(b-1)-1]
            | "u"  asymmetric (zero point)      q in [0, 2^b-1]
    granularity = "t" one scale per tensor | "c" per output channel | "g" N per group of N weights
    timing  = "static" ranges from calibration | "dynamic" ranges from each batch (activations)

Omitted parts mean ``s``, ``t`` and ``@static``; ``mxfp*`` always has groups, of 32 where no size
is given. ``int4sg128`` is a 4-bit symmetric weight with
one scale per 128 inputs; ``int8ut@dynamic`` an 8-bit activation whose range is found at run
time; ``km4c`` a 4-bit codebook per output channel. Definitions follow Gholami et al., arXiv
2103.13630, section III; the levels are those of :mod:`quant.levels`.
"""

from __future__ import annotations

import re
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
SIZED = ("pot", "apot", "km")
FITTED = ("binary", "ternary", "km")
MX_GROUP = 32
SCALE_BITS, MX_SCALE_BITS, LEVEL_BITS = 32, 8, 32

_PARTS = r"(?P<gran>t|c|g(?P<group>\d+))?(@(?P<timing>\w+))?"
_INT = re.compile(r"(?P<kind>int)(?P<bits>\d+)(?P<scheme>sr|s|u)?" + _PARTS)
_NAMED = re.compile(f"(?P<kind>{'|'.join(NAMED_BITS)})" + _PARTS)
_SIZED = re.compile(f"(?P<kind>{'|'.join(SIZED)})(?P<bits>\\d+)" + _PARTS)


class Scheme(StrEnum):
    """Which integers a format uses and whether zero is shifted."""

    SYMMETRIC = "s"
    RESTRICTED = "sr"
    ASYMMETRIC = "u"


class Granularity(StrEnum):
    """How many weights share one scale."""

    TENSOR = "t"
    CHANNEL = "c"
    GROUP = "g"


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
        group_size: weights per scale when ``granularity`` is GROUP, else 0.
        timing: static or dynamic range (activations only).
    """

    kind: str
    bits: int
    scheme: Scheme = Scheme.SYMMETRIC
    granularity: Granularity = Granularity.TENSOR
    group_size: int = 0
    timing: Timing = Timing.STATIC

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
    def is_mx(self) -> bool:
        """True for block formats with a shared power-of-two scale."""
        return self.kind.startswith("mx")

    @property
    def scale_bits(self) -> int:
        """Bits stored once per slice: scale, zero point and codebook; 0 for float formats."""
        if self.is_float:
            return 0
        if self.kind == "km":
            return LEVEL_BITS << self.bits
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
        group = str(self.group_size) if self.granularity is Granularity.GROUP else ""
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
    return Format(kind, bits, scheme, granularity, group_size, timing)


def _slices(text: str, kind: str, granularity: str, size: str) -> tuple[Granularity, int]:
    """Granularity and group size of a format's text."""
    if kind.startswith("mx"):
        if granularity[:1] in ("t", "c"):
            raise _bad_format(text, "a block format shares its scale within groups only")
        granularity, size = "g", size or str(MX_GROUP)
    result = Granularity((granularity or "t")[0])
    if result is Granularity.GROUP and int(size) < 1:
        raise _bad_format(text, "group size must be at least 1")
    return result, int(size or 0)


def _bad_format(text: str, why: str) -> UsageError:
    sized = [f"{kind}{bits}" for kind in ("int", *SIZED) for bits in range(MIN_BITS, MAX_BITS + 1)]
    known = [*FLOAT_BITS, *NAMED_BITS, *sized]
    return UsageError(
        f"format '{text}': {why}",
        expected="float32, float16, bfloat16, or int2..int8 with optional s|sr|u, t|c|gN, "
        "@static|@dynamic (for example int4sg128, int8ut@dynamic); or one of "
        f"{', '.join(NAMED_BITS)}, pot4, apot4, km4 with optional t|c|gN",
        fix=nearest(text, known) or "write for example int8sc",
    )
