"""The shipped tasks tell policies apart, and the figures of their docstrings hold here too."""

import re

import pytest
import torch
import torch.nn.functional as F

from quant.method import Method
from quant.model import QuantizedModel
from quant.slices import QUANTIZABLE
from search.tasks.digits import digits_resnet, digits_vit
from spaces.choices import parse_choice

WIDTHS = {32: "float32", **{bits: f"int{bits}src/int8ut" for bits in (8, 6, 5, 4, 3, 2)}}


class Answers:
    """Losses and divergences of one task on its test split, by weight bits; 32 is float."""

    def __init__(self, make):
        self.task, self.promised = make(), promised(make)
        self.names = [n for n, m in self.task.model.named_modules() if isinstance(m, QUANTIZABLE)]
        batches = self.task.calibration.inputs.split(50)
        quantized = QuantizedModel(self.task.model, self.names, Method(), batches)
        self.loss, self.kl, self.correct = {}, {}, {}
        labels, reference = self.task.test.labels, None
        for bits, text in WIDTHS.items():
            quantized.apply(dict.fromkeys(self.names, parse_choice(text)))
            with torch.no_grad():
                logits = torch.cat([quantized(x) for x in self.task.test.inputs.split(50)])
            found = F.log_softmax(logits, dim=1)
            reference = found if reference is None else reference
            self.loss[bits] = F.nll_loss(found, labels, reduction="none")
            self.kl[bits] = (reference.exp() * (reference - found)).sum(dim=1)
            self.correct[bits] = int((logits.argmax(1) == labels).sum())


def promised(make):
    """``{bits: (cross-entropy, accuracy in percent)}`` of a docstring's table."""
    rows = re.findall(r"^ +(float|\d) +([\d.]+) +([\d.]+) %", make.__doc__, re.MULTILINE)
    return {32 if b == "float" else int(b): (float(ce), float(acc)) for b, ce, acc in rows}


@pytest.fixture(scope="module", params=[digits_resnet, digits_vit], ids=["resnet", "vit"])
def answers(request):
    return Answers(request.param)


def standard_errors(values, other):
    """Mean of the paired differences in units of its standard error."""
    difference = values - other
    return float(difference.mean() / (difference.std() / len(difference) ** 0.5))


def test_the_task_has_layers_and_samples_enough(answers):
    assert len(answers.names) >= 14
    assert answers.task.test.n >= 600


def test_the_figures_of_the_docstring_hold_within_one_image(answers):
    assert set(answers.promised) == set(WIDTHS)
    for bits, (loss, accuracy) in answers.promised.items():
        assert abs(answers.correct[bits] - 6 * accuracy) < 1.31, bits  # one, and a rounded percent
        assert float(answers.loss[bits].mean()) == pytest.approx(loss, rel=0.005, abs=0.002), bits


def test_the_float_model_is_good_but_not_perfect(answers):
    assert 0.92 * 600 <= answers.correct[32] <= 0.98 * 600


def test_eight_bits_lose_next_to_nothing(answers):
    assert float(answers.kl[8].mean()) < 0.001


def test_every_bit_less_moves_answers_measurably_further(answers):
    """By divergence from float: with 600 labels four bits of the transformer are within noise."""
    for bits, fewer in ((8, 5), (5, 4), (4, 3), (3, 2)):
        assert standard_errors(answers.kl[fewer], answers.kl[bits]) > 4, (bits, fewer)


def test_two_bits_are_broken(answers):
    assert answers.correct[2] < 0.75 * 600
    assert standard_errors(answers.loss[2], answers.loss[8] + 0.5) > 4
