"""What every score in conf/score promises, on a small residual network."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from quant.errors import UsageError
from quant.sensitivity.base import ScoreTable
from search.targets import build
from tests.quant.models import images, residual_net
from tests.quant.sensitivity.contexts import CHOICES, context

CONF = Path(__file__).parents[2] / "conf" / "score"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
GROUPS = [["0"], ["3.conv1", "3.conv2"], ["6"]]
ROUNDED = [len(CHOICES) - 1] * len(GROUPS)


def make(name):
    data = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert list(data) == [name], "each file writes its own key, so that lists merge"
    return build(data[name], (), where=f"score.{name}")


def ctx(labels=True):
    x = images()
    return context(residual_net(), x, torch.arange(len(x)) % 2 if labels else None, GROUPS)


@pytest.fixture(scope="module")
def tables():
    found = {}

    def table(name):
        if name not in found:
            found[name] = make(name).compute(ctx())
        return found[name]

    return table


USABLE = [name for name in NAMES if name != "zeroq"]  # zeroq distils its own inputs


@pytest.mark.parametrize("name", USABLE)
def test_float_is_zero_and_nothing_offered_is_nan(name, tables):
    table = tables(name)
    assert isinstance(table, ScoreTable)
    assert table.kind == name
    assert table.value.shape == table.standard_error.shape == (len(GROUPS), len(CHOICES))
    assert np.isfinite(table.value).all()
    assert (table.standard_error >= 0).all()
    assert np.allclose(table.value[:, -1], 0, atol=1e-9)


@pytest.mark.parametrize("name", USABLE)
def test_work_stays_within_its_estimate(name, tables):
    estimate = make(name).passes(ROUNDED)
    # Layers of a group are probed one by one by the Hessian scores.
    layers = sum(map(len, GROUPS)) / len(GROUPS)
    assert tables(name).forward_equivalents <= estimate * layers + 1e-9
    assert make(name).passes([]) <= estimate


@pytest.mark.parametrize("name", USABLE)
def test_labels_are_asked_for_exactly_where_they_are_needed(name):
    score = make(name)
    if score.needs_labels:
        with pytest.raises(UsageError, match="needs labels"):
            score.compute(ctx(labels=False))
    else:
        assert score.compute(ctx(labels=False)).kind == name


@pytest.mark.parametrize("name", NAMES)
def test_what_a_score_needs_is_declared(name):
    score = make(name)
    for need in ("needs_data", "needs_labels", "needs_gradients"):
        assert isinstance(getattr(score, need), bool)
