"""A rounded weight as a file keeps it, in the bytes that costs count, and back exactly.

Per weight: packed codes; per slice a scale (float32, of block formats the exponent of a power of
two in one byte), a packed zero point where the format is asymmetric, or the numbers its levels
follow from. Weights without codes (floats, split channels, repairs that left the grid) are kept
as float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quant.affine import FLOAT_DTYPES, QParams
from quant.codebook import levels_from
from quant.codebook.vector import VectorQuantizer
from quant.errors import DataError
from quant.formats import Format, Granularity, Scheme, parse_format
from quant.packing import huffman_pack, huffman_unpack, pack, unpack
from quant.slices import SliceLayout
from quant.weights import Rounder, WeightQuantizer

CLOSE = 1e-5


@dataclass(frozen=True)
class StoredWeight:
    """One weight in a file.

    Attributes:
        tensors: what is stored, by short name (``codes``, ``scale``, ``zero_point``, ``numbers``,
            ``weight``).
        meta: what reading it needs besides, plain JSON data.
    """

    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())


def store(
    weight: Tensor, quantizer: Rounder | None, fmt: Format, *, coded: bool = False
) -> StoredWeight:
    """Packs a weight that was rounded by ``quantizer``.

    Args:
        weight: as computed with, in the layer's shape.
        quantizer: what it was rounded by; None keeps numbers as they are.
        fmt: its format.
        coded: Huffman words instead of codes of one width, where they are shorter.
    """
    meta: dict[str, Any] = {"format": str(fmt), "shape": list(weight.shape)}
    if quantizer is None or fmt.is_float:
        kind = FLOAT_DTYPES[fmt.kind] if fmt.is_float else torch.float32
        return StoredWeight({"weight": weight.detach().to(kind).contiguous()}, meta)
    codes = quantizer.codes(weight)
    away = float((quantizer.decode(codes) - weight).abs().max()) if weight.numel() else 0.0
    if away > CLOSE * float(weight.abs().max()):
        plain = weight.detach().float().contiguous()
        return StoredWeight({"weight": plain}, {**meta, "off_grid": True})
    tensors, packed = _codes(codes, fmt, coded=coded)
    meta = {**meta, **packed, "layout": _layout(quantizer.layout)}
    if isinstance(quantizer, VectorQuantizer):
        books = torch.stack(quantizer.codebooks).float()
        return StoredWeight({**tensors, "numbers": books.contiguous()}, meta)
    return StoredWeight({**tensors, **_shared(quantizer.qparams)}, meta)


def load(stored: StoredWeight) -> Tensor:
    """The weight, float32.

    Raises:
        DataError: something is missing or too short.
    """
    meta, tensors = stored.meta, stored.tensors
    try:
        if "weight" in tensors:
            return tensors["weight"].float()
        fmt = parse_format(str(meta["format"]))
        layout = SliceLayout(
            **{
                **meta["layout"],
                "shape": tuple(meta["shape"]),
                "granularity": Granularity(meta["layout"]["granularity"]),
            }
        )
        codes = torch.from_numpy(_uncoded(stored, fmt)).reshape(tuple(meta["codes_shape"]))
        if fmt.is_vector:
            return VectorQuantizer(layout, fmt, tuple(tensors["numbers"])).decode(codes)
        return WeightQuantizer(layout, _qparams(tensors, fmt, layout)).decode(codes.int())
    except (KeyError, TypeError, ValueError, RuntimeError) as cause:
        raise DataError(
            f"a packed weight of shape {meta.get('shape')} cannot be read: {cause}",
            expected="a file as bitfront-export wrote it",
            fix="export the policy again",
        ) from cause


def _codes(codes: Tensor, fmt: Format, *, coded: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    bits = fmt.bits * fmt.dim // fmt.stages
    lowest = 0 if fmt.has_levels else fmt.qmin
    values = codes.numpy().astype(np.int64) - lowest
    packed, words = pack(values, bits), None
    if coded and values.size:
        words = huffman_pack(values - values.min())
    meta = {"bits": bits, "lowest": lowest, "codes_shape": list(codes.shape)}
    if words is not None and len(words) < len(packed):
        meta |= {"huffman": int(np.ptp(values)) + 1, "least": int(values.min())}
        packed = words
    return {"codes": torch.from_numpy(packed)}, meta


def _uncoded(stored: StoredWeight, fmt: Format) -> Any:
    meta, packed = stored.meta, stored.tensors["codes"].numpy()
    count = int(np.prod(meta["codes_shape"]))
    if "huffman" in meta:
        values = huffman_unpack(packed, meta["huffman"], count) + meta["least"]
    else:
        values = unpack(packed, meta["bits"], count)
    return values + meta["lowest"]


def _shared(grid: QParams) -> dict[str, Tensor]:
    """What slices share: scales, zero points, or the numbers of fitted levels."""
    fmt = grid.fmt
    if fmt.is_mx:
        # frexp of 2^e is (0.5, e + 1).
        return {"scale": (torch.frexp(grid.scale).exponent - 1).to(torch.int8).contiguous()}
    numbers = grid.numbers if grid.numbers is not None else grid.levels
    if numbers is not None and fmt.kind not in ("binary", "ternary"):
        return {"numbers": numbers.float().contiguous()}
    scale = grid.scale.float()
    if fmt.kind in ("binary", "ternary") and grid.levels is not None:
        # Slices without any weight have levels of zero; a scale of zero says the same.
        scale = torch.where(grid.levels.abs().amax(1, keepdim=True) > 0, scale, 0 * scale)
    shared = {"scale": scale.contiguous()}
    if fmt.scheme is Scheme.ASYMMETRIC and fmt.kind == "int":
        packed = pack(grid.zero_point.numpy(), fmt.bits)
        shared["zero_point"] = torch.from_numpy(packed)
    return shared


def _qparams(tensors: Mapping[str, Tensor], fmt: Format, layout: SliceLayout) -> QParams:
    if "numbers" in tensors:
        levels = levels_from(tensors["numbers"], fmt)
        scale = levels.new_ones(len(levels), 1)
        return QParams(scale, torch.zeros_like(scale, dtype=torch.int32), fmt, levels)
    scale = tensors["scale"]
    if fmt.is_mx:
        scale = torch.ldexp(torch.ones(scale.shape), scale.int())
    zero = torch.zeros_like(scale, dtype=torch.int32)
    if "zero_point" in tensors:
        codes = unpack(tensors["zero_point"].numpy(), fmt.bits, scale.numel())
        zero = torch.from_numpy(codes).int().reshape(scale.shape)
    return QParams(scale, zero, fmt)


def _layout(layout: SliceLayout) -> dict[str, Any]:
    return {
        "granularity": str(layout.granularity),
        "group_size": layout.group_size,
        "transposed": layout.transposed,
        "groups": layout.groups,
    }


def stored_bias(bias: Tensor | None) -> dict[str, Tensor]:
    """The bias as costs count it: float32."""
    return {} if bias is None else {"bias": bias.detach().float().contiguous()}


def with_gain(stored: StoredWeight, gain: Tensor) -> StoredWeight:
    """The same weight with a factor per output channel, kept beside the codes."""
    return replace(stored, tensors={**stored.tensors, "gain": gain.float().contiguous()})
