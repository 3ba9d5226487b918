import numpy as np
import pytest
import torch
from torch import nn

from search.tasks.base import SPLITS, Split, make_task
from search.tasks.shipping import pack, unpack
from tests.models import tiny_conv_net, tiny_transformer


class Buffered(nn.Module):
    """A non-persistent buffer and a weight shared by two layers."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(64, 64), nn.Linear(64, 64)
        self.other.weight = self.one.weight
        self.register_buffer("shift", torch.arange(64.0), persistent=False)

    def forward(self, x):
        return self.other(self.one(x.flatten(1)) + self.shift)[:, :3]


def task_of(model):
    generator = torch.Generator().manual_seed(1)
    splits = {
        name: Split(torch.randn(5, 1, 8, 8, generator=generator), torch.arange(5) % 3)
        for name in SPLITS
    }
    return make_task("t", "title", model, splits)


def models():
    # torch takes another path through a linear layer whose weight asks for a gradient.
    return [tiny_conv_net(), tiny_transformer(), Buffered().requires_grad_(False)]


@pytest.mark.parametrize("model", models(), ids=["conv", "transformer", "buffers"])
def test_a_round_trip_through_read_only_arrays_keeps_every_bit(model):
    task = task_of(model)
    skeleton, arrays = pack(task)
    for name, array in arrays.items():
        # A copy as an object store holds it: elsewhere, aligned, read-only.
        frozen = torch.from_numpy(array).clone().numpy()
        frozen.flags.writeable = False
        arrays[name] = frozen
    back = unpack(skeleton, arrays)
    assert torch.equal(back.model(back.test.inputs), task.model(task.test.inputs))
    for name in SPLITS:
        assert torch.equal(getattr(back, name).labels, getattr(task, name).labels)
    assert (back.name, back.classes, back.data_hash) == (task.name, task.classes, task.data_hash)


def test_the_skeleton_holds_no_numbers():
    task = task_of(tiny_conv_net())
    skeleton, arrays = pack(task)
    tensors = [*skeleton.task.model.parameters(), *skeleton.task.model.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert sum(array.nbytes for array in arrays.values()) > 0


def test_packing_leaves_the_task_as_it_was():
    task = task_of(tiny_conv_net())
    before = task.model(task.test.inputs)
    pack(task)
    assert torch.equal(task.model(task.test.inputs), before)
    assert task.model.stem[0].weight.device.type == "cpu"


def test_arrays_are_views_not_copies():
    task = task_of(tiny_conv_net())
    _, arrays = pack(task)
    assert np.shares_memory(arrays["test.inputs"], task.test.inputs.numpy())
