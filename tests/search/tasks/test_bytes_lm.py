"""The byte-level task: text dealt to splits, causal windows, and the timed decode step."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from search.tasks.base import SPLITS
from search.tasks.bytes_lm import (
    SAMPLES,
    ByteTransformer,
    _every_position,
    _samples,
    _windows,
    bytes_lm,
    standard_library,
)


@pytest.fixture(scope="module")
def texts():
    return standard_library()


@pytest.fixture(scope="module")
def task():
    return bytes_lm("bytes_small", width=16, depth=1, context=8, epochs=1, windows=200)


def net(**changes):
    torch.manual_seed(0)
    return ByteTransformer(**{"width": 16, "depth": 2, "context": 8, **changes}).eval()


def test_no_file_is_in_two_splits(texts):
    files = [text for split in texts.values() for text in split]
    assert len(set(files)) == len(files)
    assert all(len(texts[which]) >= 8 for which in (*SPLITS, "train"))


def test_windows_are_evenly_spaced_and_do_not_overlap():
    found = _windows([bytes(range(100))], 5, 10)
    starts = found[:, 0].tolist()
    assert len(found) == 5
    assert all(b - a >= 10 for a, b in pairwise(starts))
    assert all((window == torch.arange(window[0], window[0] + 10)).all() for window in found)


def test_a_sample_is_a_distinct_window_and_the_byte_behind_it():
    split = _samples([bytes(range(256)) * 40], 20, 8, set())
    assert torch.equal(split.labels, (split.inputs[:, -1] + 1) % 256)
    assert len(split.inputs.unique(dim=0)) == split.n


def test_windows_of_another_split_are_left_out():
    text, taken = [bytes(range(256)) * 40], set()
    one, two = (_samples(text, 20, 8, taken) for _ in range(2))
    both = torch.cat([one.inputs, two.inputs])
    assert len(both.unique(dim=0)) == len(both)


def test_the_task_quotes_bits_per_byte_on_splits_of_the_promised_size(task):
    assert task.metric == "bits_per_byte"
    assert {which: getattr(task, which).n for which in SPLITS} == SAMPLES
    assert task.classes == 256


def test_a_later_byte_changes_no_earlier_state():
    model, codes = net(), torch.randint(256, (1, 8), generator=torch.Generator().manual_seed(1))
    changed = codes.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 256
    one, two = model.hidden(codes), model.hidden(changed)
    assert torch.equal(one[:, :5], two[:, :5])
    assert not torch.allclose(one[:, 5:], two[:, 5:])


def test_one_decode_step_equals_the_last_position_of_a_window():
    whole, step = net(), net(cached=7)
    step.load_state_dict(whole.state_dict())
    codes = torch.randint(256, (1, 8), generator=torch.Generator().manual_seed(2))
    x = whole.embed(codes) + whole.position
    for of, to in zip(whole.blocks, step.blocks, strict=True):
        normed = of.norm1(x)
        for name, layer in (("past_key", of.attention.key), ("past_value", of.attention.value)):
            setattr(to.attention, name, of.attention._split(layer(normed))[:, :, :-1])
        x = of(x)
    assert torch.allclose(step(codes[:, -1:]), whole(codes), atol=1e-5)


def test_the_step_has_the_layers_and_weights_of_the_model(task):
    step = task.on_device
    assert step.example_input.shape == (1, 1)
    for name, value in task.model.state_dict().items():
        assert torch.equal(step.model.state_dict()[name], value)
    assert step.model(step.example_input).shape == (1, 256)


def test_training_counts_every_position():
    model = net()
    codes = torch.randint(256, (3, 9), generator=torch.Generator().manual_seed(3))
    inputs, labels = codes[:, :-1], codes[:, 1:]
    last = [F.cross_entropy(_upto(model, inputs, k), labels[:, k]) for k in range(8)]
    expected = sum(loss.item() for loss in last) / 8
    assert _every_position(model, inputs, labels).item() == pytest.approx(expected, rel=1e-5)
    assert expected == pytest.approx(math.log(256), rel=0.2), "an untrained model guesses"


def _upto(model, inputs, position):
    return model.head(model.hidden(inputs)[:, position])
