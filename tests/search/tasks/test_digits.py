"""Data, training and cache of the shipped tasks, at toy size."""

import numpy as np
import pytest
import torch

from search.tasks.base import SPLITS, Split, hash_tensors
from search.tasks.digits import SIZES, digits_resnet, noisy_digits
from search.tasks.models import ResNet, VisionTransformer
from search.tasks.training import Origin, Recipe, trained


@pytest.fixture(scope="module")
def data():
    return noisy_digits(0.3, size=8)


def test_every_digit_is_in_exactly_one_split(data):
    assert {name: split.n for name, split in data.items()} == SIZES
    assert sum(SIZES.values()) == 1797
    assert SIZES["test"] >= 600
    images = torch.cat([split.inputs.flatten(1) for split in data.values()])
    assert len(np.unique(images.numpy(), axis=0)) == 1797


def test_splits_hold_the_classes_in_nearly_equal_shares(data):
    for split in data.values():
        counts = torch.bincount(split.labels, minlength=10)
        assert counts.max() - counts.min() <= max(4, 0.15 * split.n / 10)


def test_the_data_is_the_same_every_time(data):
    again = noisy_digits(0.3, size=8)
    assert hash_tensors({"x": data["test"].inputs}) == hash_tensors({"x": again["test"].inputs})
    assert not torch.equal(noisy_digits(0.4, size=8)["test"].inputs, again["test"].inputs)


def train(folder, seen=None, **options):
    data = Split(noisy_digits(0.3, size=8)["train"].inputs[:64], torch.arange(64) % 10)
    progress = (lambda *args: seen.append(args)) if seen is not None else (lambda *_: None)
    origin = Origin("net", {}, Recipe(1, **options))
    return trained("net", lambda: ResNet(2), data, origin, progress, folder=folder)


def test_training_is_deterministic_and_leaves_global_state_alone(tmp_path):
    before = torch.random.get_rng_state()
    one = train(tmp_path / "a")
    two = train(tmp_path / "b")
    assert hash_tensors(one.state_dict()) == hash_tensors(two.state_dict())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()
    assert not one.training


def test_the_second_time_nothing_is_trained(tmp_path):
    seen = []
    one = train(tmp_path, seen)
    assert [args[:2] for args in seen] == [(1, 1)]
    two = train(tmp_path, seen)
    assert len(seen) == 1
    assert hash_tensors(one.state_dict()) == hash_tensors(two.state_dict())


def test_another_recipe_is_another_cache_entry(tmp_path):
    train(tmp_path)
    train(tmp_path, rate=0.05)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


@pytest.mark.parametrize("damage", [b"", b"garbage"])
def test_damaged_weights_are_noticed_and_trained_again(tmp_path, damage):
    one = train(tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-8] + damage)
    seen = []
    two = train(tmp_path, seen)
    assert "damaged" in seen[0][2]
    assert hash_tensors(one.state_dict()) == hash_tensors(two.state_dict())
    assert sorted(item.suffix for item in tmp_path.iterdir()) == ["", ".json", ".safetensors"]


@pytest.mark.parametrize(
    "model",
    [ResNet(4), VisionTransformer(size=16, patch=4, width=8, depth=1, heads=2)],
    ids=["resnet", "transformer"],
)
def test_models_trace_and_run_in_onnx_with_any_batch(model, tmp_path):
    import onnxruntime as ort

    size = 16
    torch.fx.symbolic_trace(model)
    path = tmp_path / "m.onnx"
    x = torch.randn(3, 1, size, size, generator=torch.Generator().manual_seed(0))
    model = model.eval()
    torch.onnx.export(
        model, (x[:1],), str(path), dynamo=False, input_names=["x"], opset_version=17,
        dynamic_axes={"x": {0: "n"}},
    )  # fmt: skip
    found = ort.InferenceSession(str(path)).run(None, {"x": x.numpy()})[0]
    np.testing.assert_allclose(found, model(x).detach().numpy(), atol=1e-4)


def test_the_task_has_three_splits_and_a_trained_model(tmp_path, monkeypatch):
    monkeypatch.setenv("BITFRONT_CACHE", str(tmp_path))
    task = digits_resnet(width=2, epochs=1)
    assert [getattr(task, name).n for name in SPLITS] == [200, 400, 600]
    assert task.example_input.shape == (1, 1, 32, 32)
    assert task.classes == 10
