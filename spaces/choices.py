"""A choice: what one layer may take, as weight format + activation format (+ method)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from quant.errors import UsageError
from quant.formats import FLOAT32, Format, Granularity, Timing, parse_format


@dataclass(frozen=True, slots=True)
class Choice:
    """Weight and activation format of one layer.

    Attributes:
        weight: format of the weight tensor.
        activation: format of the tensor entering the layer.
        method: name of a per-layer quantization method, empty for the study's default.
    """

    weight: Format
    activation: Format
    method: str = ""

    @property
    def text(self) -> str:
        """Canonical form ``weight[+method]/activation``, for example ``int4src/int8ut``."""
        method = f"+{self.method}" if self.method else ""
        return f"{self.weight}{method}/{self.activation}"

    @property
    def label(self) -> str:
        """Short name for people: ``fp32``, ``w4a8``, ``w8a8 dyn``, ``w4a8 gptq``."""
        if self == FLOAT_CHOICE:
            return "fp32"
        dynamic = " dyn" if self.activation.timing is Timing.DYNAMIC else ""
        dynamic = " token" if self.activation.granularity is Granularity.TOKEN else dynamic
        method = f" {self.method}" if self.method else ""
        return f"{_width('w', self.weight)}{_width('a', self.activation)}{dynamic}{method}"

    def __str__(self) -> str:
        return self.text


def _width(letter: str, fmt: Format) -> str:
    """``w4`` for integers and floats, ``w4[nf4]`` where the width alone does not tell."""
    return f"{letter}{fmt.bits}[{fmt.kind}]" if fmt.has_levels else f"{letter}{fmt.bits}"


FLOAT_CHOICE = Choice(FLOAT32, FLOAT32)


@lru_cache(maxsize=4096)
def parse_choice(text: str) -> Choice:
    """Reads ``weight[+method]/activation``; the inverse of ``choice.text``.

    A missing activation part means float32.

    Raises:
        UsageError: a part is outside the format grammar.
    """
    weight, _, activation = text.partition("/")
    weight, plus, method = weight.partition("+")
    if plus and not method:
        raise UsageError(
            f"choice '{text}' has an empty method", expected="weight+method/activation"
        )
    return Choice(parse_format(weight), parse_format(activation or "float32"), method)


BASELINES = (FLOAT_CHOICE, parse_choice("int8src/int8ut"))
"""Choices every layer can take outside the search: float32 and 8 bit."""
