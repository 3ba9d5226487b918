"""Layers that carry nothing and inputs that are broken, under every score."""

import numpy as np
import pytest
import torch

from quant.sensitivity.clado import Clado
from quant.sensitivity.divergence import SingleLayer
from quant.sensitivity.eigenvalue import TopEigenvalue
from quant.sensitivity.fit import Fit
from quant.sensitivity.gradient import OutputGradient
from quant.sensitivity.hutchinson import Hutchinson
from quant.sensitivity.lss import LogitSuperposition
from quant.sensitivity.output_error import OutputError
from quant.sensitivity.sqnr import NoiseToSignal
from tests.quant.models import images, residual_net
from tests.quant.sensitivity.contexts import context

GROUPS = [["0"], ["3.conv1", "3.conv2"], ["6"]]
SCORES = [
    NoiseToSignal(),
    OutputError(),
    OutputGradient("elementwise", "given"),
    OutputGradient("fisher"),
    Fit(),
    SingleLayer("kl"),
    SingleLayer("ce"),
    LogitSuperposition(),
    Clado(),
    Hutchinson(round_probes=2, max_probes=2),
    TopEigenvalue(max_steps=2),
]


def filled(layer, value):
    """A context whose layer of that name has equal weights everywhere."""
    model, x = residual_net(), images()
    with torch.no_grad():
        model.get_submodule(layer).weight.fill_(value)
    return context(model, x, torch.arange(len(x)) % 2, GROUPS)


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.kind)
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_constant_layer_gets_finite_scores(score, value):
    table = score.compute(filled("0", value))
    assert np.isfinite(table.value).all()
    assert np.isfinite(table.standard_error).all()
    assert np.allclose(table.value[:, -1], 0, atol=1e-12)


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.kind)
def test_a_network_that_answers_the_same_everywhere_gets_finite_scores(score):
    table = score.compute(filled("6", 0.0))
    assert np.isfinite(table.value).all()
    if score.kind != "sqnr":  # which looks at the layer's input alone
        assert np.allclose(table.value[2, 0], 0, atol=1e-6)
