"""Packed models come back as modules that compute the same, in the bytes that are counted."""

import pytest
import torch

from hw_profiles.footprint import size_bytes
from quant.errors import DataError
from quant.method import Method
from search.exporting.state import pack_state, read, restore, save
from tests.search.exporting.test_graph import POLICIES, Calibrated


@pytest.fixture(scope="module")
def net():
    return Calibrated()


def packed(net, choices, tmp_path, *, coded=False):
    path = tmp_path / "model.safetensors"
    save(pack_state(net.quantized, choices, "abc", coded=coded), path)
    return path


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("name", POLICIES)
def test_a_file_computes_what_was_simulated(net, name, coded, tmp_path):
    choices = net.choices(*POLICIES[name])
    path = packed(net, choices, tmp_path, coded=coded)
    module = restore(read(path), net.model)
    with torch.no_grad():
        found = module(net.test).numpy()
    assert abs(found - net.simulated(choices)).max() < 1e-4


def test_layers_take_the_bytes_of_the_cost_model(net, tmp_path):
    choices = net.choices("int4src/int8ut", "int3uc/int8ut", "int2sg4", "float32")
    state = read(packed(net, choices, tmp_path))
    for spec in net.layers:
        counted = size_bytes(spec, choices[spec.name])
        bias = 0 if spec.bias else 4 * spec.out_channels  # a folded norm brings one
        assert 0 <= state.nbytes(spec.name) - counted <= bias + 1


def test_plain_modules_hold_the_stored_weights(net, tmp_path):
    choices = net.choices("int4src/int8ut")
    module = restore(read(packed(net, choices, tmp_path)), net.model, fake=False)
    net.quantized.apply(choices)
    for spec in net.layers:
        stored = module.get_submodule(spec.name).weight
        assert torch.allclose(stored, net.quantized.module.get_submodule(spec.name).weight)
    net.quantized.float_()
    assert not any(m._forward_pre_hooks for m in module.modules())


def test_norm_repairs_travel_as_gains(tmp_path):
    net = Calibrated(Method(repair=("bn_reestimate",)))
    choices = net.choices("int3src/int8ut")
    state = read(packed(net, choices, tmp_path))
    assert any(name.endswith("::gain") for name in state.tensors)
    with torch.no_grad():
        found = restore(state, net.model)(net.test).numpy()
    assert abs(found - net.simulated(choices)).max() < 1e-3


def test_damaged_and_foreign_files_are_told(net, tmp_path):
    path = packed(net, net.choices("int4src/int8ut"), tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(DataError, match="packed model cannot be read"):
        read(path)
    from safetensors.torch import save_file

    save_file({"x": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="not a packed model"):
        read(tmp_path / "other.safetensors")
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"layer 'stem\.0' of the file is not in the model"):
        restore(read(path), torch.nn.Sequential(torch.nn.Linear(3, 3)))
