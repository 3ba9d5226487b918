import pytest
import torch
from torch import nn

from quant.errors import DataError
from search.tasks.base import SPLITS, Split, hash_tensors, make_task


def splits(n=4, features=3, classes=2):
    generator = torch.Generator().manual_seed(0)
    return {
        name: Split(torch.randn(n, features, generator=generator), torch.arange(n) % classes)
        for name in SPLITS
    }


def model(classes=2):
    return nn.Sequential(nn.Linear(3, classes))


def test_a_task_knows_its_classes_and_hashes():
    task = make_task("t", "title", model(), splits())
    assert task.classes == 2
    assert task.example_input.shape == (1, 3)
    again = make_task("t", "title", task.model, splits())
    assert (again.data_hash, again.weights_hash) == (task.data_hash, task.weights_hash)
    other = make_task("t", "title", model(), splits())
    assert other.weights_hash != task.weights_hash


def test_the_hash_sees_names_shapes_and_values():
    x = torch.arange(6.0)
    hashes = {
        hash_tensors({"a": x}),
        hash_tensors({"b": x}),
        hash_tensors({"a": x.reshape(2, 3)}),
        hash_tensors({"a": x + 1}),
        hash_tensors({"a": x.double()}),
    }
    assert len(hashes) == 5
    assert hash_tensors({"a": torch.tensor(3)}) == hash_tensors({"a": torch.tensor(3)})


class Nan(nn.Module):
    def forward(self, x):
        return x[:, :2] * float("nan")


class Wide(nn.Module):
    def forward(self, x):
        return x[:, :2, None]


@pytest.mark.parametrize("which", SPLITS)
def test_an_empty_split_is_named(which):
    data = splits() | {which: Split(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))}
    with pytest.raises(DataError, match=f"the {which} split is empty"):
        make_task("t", "", model(), data)


def test_overlapping_splits_are_refused():
    data = splits()
    data["test"] = Split(data["search"].inputs.flip(0), data["test"].labels)
    with pytest.raises(DataError, match="sample 0 of the test split is also in the search split"):
        make_task("t", "", model(), data)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Nan(), "float model answers NaN"),
        (Wide(), r"(?s)the model returns \(4, 2, 1\).*a tensor \[n, classes\] of logits"),
    ],
)
def test_a_broken_model_is_refused(broken, message):
    with pytest.raises(DataError, match=message):
        make_task("t", "", broken, splits())


def test_nan_inputs_and_bad_labels_are_refused():
    data = splits()
    data["search"].inputs[1, 0] = float("nan")
    with pytest.raises(DataError, match="the search split holds NaN"):
        make_task("t", "", model(), data)
    data = splits(classes=4)
    with pytest.raises(DataError, match=r"(?s)run from 0 to 3.*int64 from 0 to 1"):
        make_task("t", "", model(), data)
    data = splits()
    data["test"] = Split(data["test"].inputs, data["test"].labels[:2])
    with pytest.raises(DataError, match="4 inputs and 2 labels"):
        make_task("t", "", model(), data)
