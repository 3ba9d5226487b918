"""Which table entries a search space needs."""

from __future__ import annotations

from collections.abc import Iterable

from hw_profiles.backends.base import Backend
from hw_profiles.profile import EntryKey, Profile
from spaces.choices import Choice
from spaces.layers import LayerSpec
from spaces.space import SearchSpace

FLOAT_EDGE = "float32"


def layer_key(
    backend: Backend, layer: LayerSpec, choice: Choice, batch: int = 1, threads: int = 1
) -> EntryKey:
    """Key of the kernel that ``layer`` runs when it takes ``choice`` (unpacked where needed)."""
    kernel = backend.runs_as(layer, choice)
    edge_in, edge_out = backend.edges(layer, kernel)
    return EntryKey(
        op=layer.op,
        weight_shape=layer.weight_shape,
        input_shape=layer.input_shape,
        output_shape=layer.output_shape,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        weight_format=str(kernel.weight),
        activation_format=str(kernel.activation),
        edge_in=edge_in,
        edge_out=edge_out,
        fused_with=layer.fused_with,
        batch=batch,
        threads=threads,
    )


def quantize_key(shape: tuple[int, ...], edge: str, batch: int = 1, threads: int = 1) -> EntryKey:
    """Key of turning a float32 tensor of ``shape`` (one sample) into ``edge``."""
    return EntryKey("quantize", (), shape, shape, edge_out=edge, batch=batch, threads=threads)


def dequantize_key(
    shape: tuple[int, ...], edge: str, batch: int = 1, threads: int = 1
) -> EntryKey:
    """Key of turning an ``edge`` tensor of ``shape`` (one sample) into float32."""
    return EntryKey("dequantize", (), shape, shape, edge_in=edge, batch=batch, threads=threads)


def keys_of_choice(
    backend: Backend, layer: LayerSpec, choice: Choice, batch: int = 1, threads: int = 1
) -> tuple[EntryKey, ...]:
    """The kernel's key and those of the conversions it may need around it."""
    key = layer_key(backend, layer, choice, batch, threads)
    keys = [key]
    if key.edge_in != FLOAT_EDGE:
        keys.append(quantize_key(layer.input_shape, key.edge_in, batch, threads))
    if key.edge_out != FLOAT_EDGE:
        keys.append(dequantize_key(layer.output_shape, key.edge_out, batch, threads))
    return tuple(keys)


def choices_by_layer(space: SearchSpace) -> Iterable[tuple[LayerSpec, Choice]]:
    """Every (layer, choice) pair of a space, baseline-only choices included."""
    for group in space.groups:
        for name in group.layers:
            for choice in group.all_choices:
                yield space.layer_named[name], choice


def required_keys(
    space: SearchSpace, backend: Backend, batch: int = 1, threads: int = 1
) -> list[EntryKey]:
    """Unique keys of everything ``space`` can be made of, in execution order."""
    needed = (
        key
        for layer, choice in choices_by_layer(space)
        for key in keys_of_choice(backend, layer, choice, batch, threads)
    )
    return list(dict.fromkeys(needed))


def missing_keys(
    space: SearchSpace, profile: Profile, backend: Backend, batch: int = 1, threads: int = 1
) -> list[EntryKey]:
    """Keys of ``space`` the profile has no entry for."""
    keys = required_keys(space, backend, batch, threads)
    return [key for key in keys if key not in profile.by_key]


def layers_missing(
    space: SearchSpace, missing: Iterable[EntryKey], backend: Backend, batch: int, threads: int
) -> list[str]:
    """``"layer (choice)"`` for every pair that needs one of the ``missing`` keys."""
    lost = set(missing)
    return [
        f"{layer.name} ({choice.label})"
        for layer, choice in choices_by_layer(space)
        if not lost.isdisjoint(keys_of_choice(backend, layer, choice, batch, threads))
    ]
