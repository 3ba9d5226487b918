import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from quant.errors import DataError, UsageError
from search.tasks.custom import as_split, custom, task_from

MODULE = """
import torch
from torch import nn

def build_model():
    return nn.Sequential(nn.Linear(4, 3))

def data():
    g = torch.Generator().manual_seed(0)
    return {name: (torch.randn(6, 4, generator=g), torch.arange(6) % 3)
            for name in ("calibration", "search", "test")}

def not_a_model():
    return 3

def two_splits():
    return {"calibration": None, "search": None}
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    name = f"mine_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_task_from_two_functions(module):
    task = custom(f"{module}:build_model", f"{module}.data", name="mine")
    assert (task.name, task.classes, task.search.n) == ("mine", 3, 6)


@pytest.mark.parametrize(
    ("model", "data", "error", "message"),
    [
        ("nowhere_at_all:f", "{m}:data", UsageError, "cannot be imported"),
        ("{m}:build_mode", "{m}:data", UsageError, "(?s)no function.*did you mean 'build_model'"),
        ("{m}:not_a_model", "{m}:data", DataError, "(?s)returned a int.*torch.nn.Module"),
        ("{m}:build_model", "{m}:two_splits", DataError, "(?s)calibration.*search and test"),
        ("{m}:build_model", "{m}:build_model", DataError, "a mapping with calibration"),
    ],
)
def test_mistakes_are_named(module, model, data, error, message):
    with pytest.raises(error, match=message):
        custom(model.format(m=module), data.format(m=module))


def test_loaders_arrays_and_pairs_give_the_same_split():
    x, y = torch.randn(7, 2, generator=torch.Generator().manual_seed(0)), torch.arange(7)
    loader = DataLoader(TensorDataset(x, y), batch_size=3)
    for data in ((x, y), (x.numpy(), y.numpy()), loader, [(x[:4], y[:4]), (x[4:], y[4:])]):
        split = as_split(data, "search")
        assert torch.equal(split.inputs, x)
        assert torch.equal(split.labels, y)
        assert split.labels.dtype == torch.int64


@pytest.mark.parametrize("data", [3, [torch.zeros(2)], ["ab"]])
def test_other_forms_are_refused(data):
    with pytest.raises(DataError, match="the test split is"):
        as_split(data, "test")


def test_an_empty_loader_is_an_empty_split():
    pair = (torch.zeros(1, 4), torch.zeros(1))
    with pytest.raises(DataError, match="the test split is empty"):
        task_from(nn.Linear(4, 2), pair, (torch.ones(1, 4), torch.zeros(1)), [])
