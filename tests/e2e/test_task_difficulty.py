"""The shipped tasks tell policies apart: the figures their docstrings promise.

Trains both networks on first use (under a minute each) and reads the user's cache afterwards.
"""

import pytest
import torch
import torch.nn.functional as F

from quant.method import Method
from quant.model import QuantizedModel
from quant.slices import QUANTIZABLE
from search.tasks.digits import digits_resnet, digits_vit
from spaces.choices import parse_choice


@pytest.fixture(scope="module", params=[digits_resnet, digits_vit], ids=["resnet", "vit"])
def losses(request, tmp_path_factory):
    """``{bits: (per-image losses, accuracy)}`` on the test split; 32 is float."""
    task = request.param()
    names = [n for n, m in task.model.named_modules() if isinstance(m, QUANTIZABLE)]
    assert len(names) >= 14
    assert task.test.n >= 600
    quantized = QuantizedModel(task.model, names, Method(), task.calibration.inputs.split(50))
    found = {}
    for bits, text in [(32, "float32"), *((b, f"int{b}src/int8ut") for b in (8, 4, 2))]:
        quantized.apply(dict.fromkeys(names, parse_choice(text)))
        with torch.no_grad():
            logits = torch.cat([quantized(batch) for batch in task.test.inputs.split(50)])
        loss = F.cross_entropy(logits, task.test.labels, reduction="none")
        found[bits] = loss, float((logits.argmax(1) == task.test.labels).float().mean())
    return found


def paired(losses, one, other):
    """Mean difference of per-image losses and its standard error."""
    difference = losses[one][0] - losses[other][0]
    return float(difference.mean()), float(difference.std()) / len(difference) ** 0.5


@pytest.mark.slow
def test_the_float_model_is_good_but_not_perfect(losses):
    assert 0.92 <= losses[32][1] <= 0.98


@pytest.mark.slow
def test_eight_bits_lose_nothing_that_can_be_measured(losses):
    difference, error = paired(losses, 8, 32)
    assert abs(difference) < max(0.01, 3 * error)


@pytest.mark.slow
def test_four_bits_are_measurably_worse_than_eight(losses):
    difference, error = paired(losses, 4, 8)
    assert difference > 2 * error


@pytest.mark.slow
def test_two_bits_are_broken(losses):
    assert losses[2][1] < losses[32][1] - 0.2
    assert paired(losses, 2, 8)[0] > 0.5
