"""The pair form reproduces what was measured, and its projection has no negative direction."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.errors import UsageError
from quant.sensitivity.clado import Clado, PairTable, projected
from tests.quant.models import images, residual_net
from tests.quant.sensitivity.contexts import context

GROUPS = [["0"], ["3.conv1", "3.conv2"], ["6"]]


def made(labels=True):
    x = images()
    return context(residual_net(), x, torch.arange(len(x)) % 2 if labels else None, GROUPS)


def measured(ctx, codes):
    chosen = {name: ctx.choices[g][c] for g, c in enumerate(codes) for name in ctx.groups[g]}
    ctx.quantized.apply(chosen)
    with torch.no_grad():
        logits = ctx.quantized(ctx.inputs).double()
    ctx.quantized.float_()
    return float(F.cross_entropy(logits, ctx.labels))


def test_singles_and_pairs_are_exact_without_projection():
    ctx = made()
    table = Clado(psd=False).compute(ctx)
    for codes in ([3, 3, 3], [0, 3, 3], [3, 1, 3], [0, 1, 3], [3, 2, 0], [1, 3, 2]):
        found = table.surrogate.predict(np.array(codes))["ce"][0]
        assert found == pytest.approx(measured(ctx, codes), abs=1e-5)


def test_work_counts_pairs_of_rounded_choices():
    table = Clado().compute(made())
    assert "27 pairs measured" in table.notes
    assert table.forward_equivalents < 1 + 9 + 27


def test_predictions_equal_the_quadratic_form():
    rng = np.random.default_rng(0)
    form = rng.standard_normal((3, 2, 3, 2))
    found = PairTable(0.5, form)
    for codes in np.ndindex(2, 2, 2):
        x = np.zeros((3, 2))
        x[np.arange(3), codes] = 1
        expected = 0.5 + np.einsum("gc,gchd,hd->", x, form, x) / 2
        assert found.predict(np.array(codes))["ce"][0] == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_projection_is_the_nearest_form_without_negative_directions(seed):
    rng = np.random.default_rng(seed)
    raw = rng.standard_normal((6, 6))
    raw = (raw + raw.T).reshape(3, 2, 3, 2)
    kept = projected(raw)
    assert np.linalg.eigvalsh(kept.reshape(6, 6)).min() > -1e-9
    assert np.allclose(projected(kept), kept)
    root = rng.standard_normal((6, 6))
    other = (root @ root.T).reshape(3, 2, 3, 2)
    assert np.linalg.norm(kept - raw) <= np.linalg.norm(other - raw) + 1e-9


def test_a_space_with_too_many_pairs_is_refused_before_work():
    with pytest.raises(UsageError, match=r"(?s)need 27 passes.*at most 10.*'lss'"):
        Clado(max_passes=10).compute(made())


def test_labels_are_needed():
    with pytest.raises(UsageError, match="'clado' needs labels"):
        Clado().compute(made(labels=False))
