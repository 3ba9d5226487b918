"""The repair suite's arithmetic: paired resampling, gains, ratios, and its cases."""

import numpy as np
import pytest
import torch

from quant.method import Method
from search.benches.ptq import METHODS, NORM_METHODS, cases, gain, ratio_figure, resampled


def kls(seed=0):
    return torch.rand(5, 40, generator=torch.Generator().manual_seed(seed)).double() + 0.1


def test_resampling_is_paired_and_reproducible():
    np.testing.assert_allclose(resampled(2 * kls(), kls()), 2)
    np.testing.assert_array_equal(resampled(kls(1), kls()), resampled(kls(1), kls()))


def test_a_gain_is_the_share_of_the_divergence_taken_away():
    shown = gain("task/int2src/int8ut", "gptq", kls(), kls() / 4)
    assert shown.value == pytest.approx(0.75)
    assert shown.interval == pytest.approx((0.75, 0.75))
    assert (shown.bar, shown.n, shown.met) == (0.2, 5, True)
    worse = gain("task/int4src/int8ut", "equalize", kls(), kls() * 2)
    assert worse.value == pytest.approx(-1)
    assert (worse.bar, worse.met) == (0.0, False)


def test_the_interval_covers_calibrations_and_samples():
    before, after = kls(), kls(1)
    shown = gain("task/int3src/int4ut", "smooth", before, after)
    assert shown.bar is None
    assert shown.interval[0] < shown.value < shown.interval[1]
    one = ratio_figure("task/x", "ratio", after[:1], before[:1], bar=1.5)
    assert one.interval[0] < one.value < one.interval[1]


def test_every_case_is_a_valid_method_and_both_widths_are_there():
    methods = {**METHODS, **NORM_METHODS}
    assert all(Method(repair=repair).repair == repair for repair in methods.values())
    assert len(cases()) == 6
    assert sum("int4ut" in text for text in cases()) == 3
