"""A policy as packed tensors: a safetensors file, and the modules it becomes again.

The file holds every layer's packed weight (:mod:`quant.stored`), its bias, and all other tensors
of the model as they are; formats, shapes and input grids stand in the header as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from quant.activations import DynamicQuantizer, StaticQuantizer
from quant.affine import QParams
from quant.attach import Quantizer, attach
from quant.errors import DataError
from quant.folding import fold_batch_norm
from quant.formats import FLOAT32, Timing, parse_format
from quant.model import QuantizedModel
from quant.numbers import LayerNumbers, layer_numbers
from quant.stored import StoredWeight, load, store
from quant.weights import Rounder
from spaces.choices import Choice

META = "bitfront"
VERSION = 1
BETWEEN = "::"
"""Between a layer's name and that of one of its tensors; no module name holds it."""


@dataclass(frozen=True)
class PackedState:
    """What a file holds.

    Attributes:
        tensors: by name, ``layer::codes`` and so on; other tensors of the model by their own.
        meta: ``policy_id``, ``layers``: what is needed to read each layer.
    """

    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any]

    def nbytes(self, layer: str) -> int:
        """Bytes of one layer's tensors."""
        mine = (t for name, t in self.tensors.items() if name.startswith(f"{layer}{BETWEEN}"))
        return sum(tensor.numel() * tensor.element_size() for tensor in mine)


def pack_state(
    quantized: QuantizedModel, choices: Mapping[str, Choice], policy_id: str, *, coded: bool
) -> PackedState:
    """Applies a policy and packs the model.

    Args:
        quantized: the calibrated model.
        choices: choice of every layer.
        policy_id: kept in the header.
        coded: Huffman words where they are shorter.
    """
    quantized.apply(choices)
    numbers = layer_numbers(quantized, choices)
    tensors: dict[str, Tensor] = {}
    layers: dict[str, Any] = {}
    for name, found in numbers.items():
        stored = _stored(quantized, name, found, coded=coded)
        held = dict(stored.tensors)
        if found.bias is not None:
            held["bias"] = found.bias.float().contiguous()
        if found.gain is not None:
            held["gain"] = found.gain.float().contiguous()
        tensors |= {f"{name}{BETWEEN}{key}": tensor for key, tensor in held.items()}
        layers[name] = {**stored.meta, "choice": choices[name].text, **_input(found)}
    quantized.float_()
    tensors |= _rest(quantized, numbers)
    return PackedState(tensors, {"policy_id": policy_id, "layers": layers})


def _stored(
    quantized: QuantizedModel, name: str, found: LayerNumbers, *, coded: bool
) -> StoredWeight:
    choice = found.choice
    quantizer: Rounder | None = None
    if not choice.weight.is_float and "split" not in choice.method.split("+"):
        quantizer = quantized.weight_quantizer(name, choice.weight, choice.method)
    fmt = choice.weight if choice.weight.is_float or quantizer is not None else FLOAT32
    return store(found.weight, quantizer, fmt, coded=coded)


def _input(found: LayerNumbers) -> dict[str, Any]:
    if found.input is None:
        return {}
    return {"input": [float(found.input.scale), int(found.input.zero_point)]}


def _rest(quantized: QuantizedModel, layers: Mapping[str, object]) -> dict[str, Tensor]:
    """Tensors of the model that belong to no layer."""
    own = {f"{name}." for name in layers}
    return {
        name: tensor.detach().clone().contiguous()
        for name, tensor in quantized.module.state_dict().items()
        if not any(name.startswith(prefix) for prefix in own)
    }


def save(state: PackedState, path: Path) -> None:
    """Writes the file."""
    header = {"schema_version": VERSION, **state.meta}
    save_file(dict(state.tensors), path, metadata={META: json.dumps(header)})


def read(path: Path) -> PackedState:
    """Reads a file of :func:`save`.

    Raises:
        DataError: it is damaged, of a newer version, or not such a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get(META, "null"))
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as cause:
        raise DataError(
            f"packed model cannot be read: {cause}",
            where=path.name,
            expected="a file as bitfront-export wrote it",
            fix="export the policy again",
        ) from cause
    if not isinstance(meta, dict) or meta.get("schema_version") != VERSION:
        raise DataError(
            "the file is not a packed model of this version of bitfront",
            where=path.name,
            expected=f"schema version {VERSION} in its header",
        )
    return PackedState(tensors, meta)


def restore(state: PackedState, model: nn.Module, *, fake: bool = True) -> nn.Module:
    """A module that computes what the policy computes.

    Args:
        state: as read.
        model: the architecture; its own numbers do not matter, and it is not changed.
        fake: rounds inputs as the policy says; False gives the stored weights with float
            inputs, a plain module without hooks.

    Raises:
        DataError: the model has other layers or tensors than the file.
    """
    module = fold_batch_norm(model).model
    layers: Mapping[str, Any] = state.meta["layers"]
    known = dict(module.named_modules())
    for name in layers:
        if name not in known:
            raise _other(f"layer '{name}' of the file is not in the model")
    rest = {k: v for k, v in state.tensors.items() if BETWEEN not in k}
    weights = {name: _weight(state, name) for name in layers}
    lacking = set(module.state_dict()) - set(rest)
    lacking -= {f"{name}.{part}" for name in layers for part in ("weight", "bias")}
    if lacking:
        raise _other(f"the file lacks '{sorted(lacking)[0]}' of the model")
    with torch.no_grad():
        for name, (weight, bias) in weights.items():
            _fill(known[name], name, weight, bias)
        try:
            module.load_state_dict(rest, strict=False)
        except RuntimeError as cause:
            raise _other(str(cause).splitlines()[-1].strip()) from cause
    if fake:
        attachment = attach(module, layers)
        for name, meta in layers.items():
            attachment.set(name, input=_quantizer(meta, known[name]))
    return module.eval()


def _weight(state: PackedState, name: str) -> tuple[Tensor, Tensor | None]:
    prefix = f"{name}{BETWEEN}"
    mine = {k.removeprefix(prefix): v for k, v in state.tensors.items() if k.startswith(prefix)}
    bias, gain = mine.pop("bias", None), mine.pop("gain", None)
    weight = load(StoredWeight(mine, state.meta["layers"][name]))
    return weight if gain is None else weight * gain, bias


def _fill(module: nn.Module, name: str, weight: Tensor, bias: Tensor | None) -> None:
    held = module.weight
    if not isinstance(held, Tensor) or held.shape != weight.shape:
        raise _other(f"the weight of layer '{name}' has shape {tuple(weight.shape)} in the file")
    module.weight = nn.Parameter(weight, requires_grad=False)
    module.register_parameter(
        "bias", None if bias is None else nn.Parameter(bias, requires_grad=False)
    )


def _quantizer(meta: Mapping[str, Any], module: nn.Module) -> Quantizer | None:
    _, _, text = str(meta["choice"]).partition("/")
    fmt = parse_format(text or "float32")
    if fmt == FLOAT32:
        return None
    if "input" in meta:
        scale, zero = meta["input"]
        return StaticQuantizer(
            QParams(torch.tensor(scale), torch.tensor(zero, dtype=torch.int32), fmt)
        )
    if fmt.timing is Timing.DYNAMIC:
        return DynamicQuantizer(fmt, features_last=isinstance(module, nn.Linear))
    return StaticQuantizer(QParams(torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), fmt))


def _other(what: str) -> DataError:
    return DataError(
        what,
        where="packed model",
        expected="the architecture the policy was exported from",
        fix="pass the same task or model as in the search",
    )
