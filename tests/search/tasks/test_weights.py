"""Weights that come with the package: found by what they were made from, refused when damaged."""

import json
import shutil

import pytest
import torch

from quant.errors import DataError
from search.tasks import weights
from search.tasks.base import hash_tensors
from search.tasks.digits import digits_resnet, digits_vit
from search.tasks.ship import SHIPPED, main
from search.tasks.weights import DamagedError, read, shipped, shipped_folder, write

RECORDS = {path.stem: json.loads(path.read_text()) for path in shipped_folder().glob("*.json")}
STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.int64)}
ORIGIN = {"task": "t", "settings": {"noise": 0.42}, "recipe": {"epochs": 3, "rate": 0.1}}


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BITFRONT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def copies(tmp_path):
    return shutil.copytree(shipped_folder(), tmp_path / "shipped")


def test_every_shipped_task_has_weights_with_hash_recipe_and_origin():
    assert set(RECORDS) == set(SHIPPED)
    for name, record in RECORDS.items():
        assert record["origin"]["task"] == name
        assert record["origin"]["recipe"]["seed"] == 0
        assert set(record["trained_with"]) == {"torch", "kernels"}
        assert read(shipped_folder() / f"{name}.safetensors")


@pytest.mark.parametrize("build", SHIPPED.values(), ids=SHIPPED)
def test_a_task_of_default_settings_starts_without_training(build, empty_cache):
    seen = []
    task = build(progress=lambda *args: seen.append(args))
    assert seen == []
    assert not empty_cache.exists()
    state = read(shipped_folder() / f"{build.__name__}.safetensors")
    assert task.weights_hash == hash_tensors(state)
    assert not task.model.training
    assert not any(weight.requires_grad for weight in task.model.parameters())


def test_the_name_of_a_task_is_free(empty_cache):
    assert digits_vit(name="mine").weights_hash == digits_vit().weights_hash


@pytest.mark.parametrize("change", [{"noise": 0.13}, {"width": 8}, {"depth": 1}])
def test_other_settings_are_other_weights_and_trained_here(change, empty_cache):
    seen = []
    digits_vit(**{"epochs": 1, **change}, progress=lambda *args: seen.append(args))
    assert [args[:2] for args in seen] == [(1, 1)]
    (record,) = empty_cache.glob("weights/*.json")
    settings = json.loads(record.read_text())["origin"]["settings"]
    assert change.items() <= settings.items()


def test_train_leaves_the_shipped_weights_out_and_fills_the_cache(empty_cache, monkeypatch):
    short = {"width": 2, "epochs": 1}
    monkeypatch.setattr(weights, "shipped", lambda origin: pytest.fail("asked the package"))
    seen = []
    for _ in range(2):
        task = digits_resnet(**short, train=True, progress=lambda *args: seen.append(args))
    assert len(seen) == 1, "the second time the cache has them"
    (path,) = empty_cache.glob("weights/*.safetensors")
    assert task.weights_hash == hash_tensors(read(path))


def test_shipping_trains_anew_and_writes_weights_with_their_record(tmp_path, monkeypatch):
    from search.tasks import ship

    def small(**options):
        return digits_resnet(width=2, epochs=1, **options)

    monkeypatch.setitem(SHIPPED, "digits_resnet", small)
    monkeypatch.setattr(ship, "shipped_folder", lambda: tmp_path)
    main(["name=digits_resnet"])
    assert {path.name for path in tmp_path.iterdir()} == {
        "digits_resnet.safetensors", "digits_resnet.json",
    }  # fmt: skip
    origin = json.loads((tmp_path / "digits_resnet.json").read_text())["origin"]
    assert shipped(origin, tmp_path) is not None
    assert shipped(RECORDS["digits_resnet"]["origin"], tmp_path) is None


def test_an_unknown_task_to_ship_is_refused_with_the_nearest():
    with pytest.raises(Exception, match="did you mean 'digits_vit'"):
        main(["name=digits_vita"])


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    write(path, STATE, ORIGIN)
    found = read(path)
    assert all(torch.equal(found[name], value) for name, value in STATE.items())
    assert {item.name for item in tmp_path.iterdir()} == {"x.safetensors", "x.json"}
    assert shipped(ORIGIN, tmp_path) is not None
    for change in ({"settings": {"noise": 0.43}}, {"recipe": {"epochs": 4, "rate": 0.1}}):
        assert shipped({**ORIGIN, **change}, tmp_path) is None


DAMAGES = {
    "a byte flipped": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\xff"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-8]),
    "record is no JSON": lambda path: path.with_suffix(".json").write_text("{"),
    "record without a hash": lambda path: path.with_suffix(".json").write_text("{}"),
    "record is a list": lambda path: path.with_suffix(".json").write_text("[]"),
    "record gone": lambda path: path.with_suffix(".json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_noticed(tmp_path, damage):
    path = tmp_path / "x.safetensors"
    write(path, STATE, ORIGIN)
    damage(path)
    with pytest.raises(DamagedError):
        read(path)


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_a_damaged_installation_is_one_message(copies, damage):
    path = copies / "digits_vit.safetensors"
    if damage == "flip":
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.write_bytes(raw)
    else:
        path.unlink()
    with pytest.raises(DataError) as caught:
        shipped(RECORDS["digits_vit"]["origin"], copies)
    assert str(caught.value).startswith("the trained weights digits_vit.safetensors of this")
    assert "task.train=true" in str(caught.value)
    assert caught.value.exit_code == 4
