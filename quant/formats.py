"""Number formats: how one tensor is stored and computed, and their text form.

Grammar (whitespace is not allowed)::

    format  = "float32" | "float16" | "bfloat16"
            | "int" bits [scheme] [granularity] ["@" timing]
    bits    = 2 .. 8
    scheme  = "s"  symmetric, full range        q in [-2^(b-1), 2^(b-1)-1]
            | "sr" symmetric, restricted range  q in [-(2^(b-1)-1), 2^(b-1)-1]
            | "u"  asymmetric (zero point)      q in [0, 2^b-1]
    granularity = "t" one scale per tensor | "c" per output channel | "g" N per group of N weights
    timing  = "static" ranges from calibration | "dynamic" ranges from each batch (activations)

Omitted parts mean ``s``, ``t`` and ``@static``. ``int4sg128`` is a 4-bit symmetric weight with
one scale per 128 inputs; ``int8ut@dynamic`` an 8-bit activation whose range is found at run
time. Definitions follow Gholami et al., arXiv 2103.13630, section III.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from quant.errors import UsageError, nearest

MIN_BITS, MAX_BITS = 2, 8
FLOAT_BITS = {"float32": 32, "float16": 16, "bfloat16": 16}

_INT = re.compile(
    r"int(?P<bits>\d+)(?P<scheme>sr|s|u)?(?P<gran>t|c|g(?P<group>\d+))?(@(?P<timing>\w+))?"
)


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
        kind: ``"int"`` or the name of a float type.
        bits: storage width of one element, without scales.
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
        """True for formats without an integer grid."""
        return self.kind != "int"

    @property
    def qmin(self) -> int:
        """Smallest integer code."""
        if self.scheme is Scheme.ASYMMETRIC:
            return 0
        full = -(1 << (self.bits - 1))
        return full + 1 if self.scheme is Scheme.RESTRICTED else full

    @property
    def qmax(self) -> int:
        """Largest integer code."""
        if self.scheme is Scheme.ASYMMETRIC:
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
        return f"int{self.bits}{self.scheme}{self.granularity}{group}{timing}"


FLOAT32 = Format("float32", 32)


@lru_cache(maxsize=4096)
def parse_format(text: str) -> Format:
    """Reads a format's text form; the inverse of ``str(format)``.

    Raises:
        UsageError: the text is outside the grammar above or its bits are outside 2..8.
    """
    if text in FLOAT_BITS:
        return Format(text, FLOAT_BITS[text])
    match = _INT.fullmatch(text)
    if match is None:
        raise _bad_format(text, "not a number format")
    bits = int(match["bits"])
    if not MIN_BITS <= bits <= MAX_BITS:
        raise _bad_format(text, f"{bits} bits is out of range")
    granularity = Granularity((match["gran"] or "t")[0])
    group_size = int(match["group"] or 0)
    if granularity is Granularity.GROUP and group_size < 1:
        raise _bad_format(text, "group size must be at least 1")
    try:
        timing = Timing(match["timing"] or "static")
    except ValueError:
        raise _bad_format(text, f"unknown timing '@{match['timing']}'") from None
    return Format("int", bits, Scheme(match["scheme"] or "s"), granularity, group_size, timing)


def _bad_format(text: str, why: str) -> UsageError:
    known = [*FLOAT_BITS, *(f"int{bits}" for bits in range(MIN_BITS, MAX_BITS + 1))]
    return UsageError(
        f"format '{text}': {why}",
        expected="float32, float16, bfloat16, or int2..int8 with optional s|sr|u, t|c|gN, "
        "@static|@dynamic (for example int4sg128, int8ut@dynamic)",
        fix=nearest(text, known) or "write for example int8sc",
    )
