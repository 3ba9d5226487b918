"""The repair suite's arithmetic: paired resampling and gains."""

import numpy as np
import pytest
import torch

from quant.method import Method
from search.benches.ptq import METHODS, _gain, resampled


def test_resampling_is_paired_and_reproducible():
    values = torch.rand(50, generator=torch.Generator().manual_seed(0)).double()
    means = resampled(values, 2 * values)
    np.testing.assert_allclose(means[:, 1], 2 * means[:, 0])
    np.testing.assert_array_equal(means, resampled(values, 2 * values))


def test_a_gain_is_the_share_of_the_divergence_taken_away():
    before = torch.rand(50, generator=torch.Generator().manual_seed(0)).double()
    shown = _gain("task/int2src/int8ut", "gptq", before, before / 4, 2)
    assert shown.value == pytest.approx(0.75)
    assert shown.interval == pytest.approx((0.75, 0.75))
    assert shown.met
    worse = _gain("task/int4src/int8ut", "equalize", before, before * 2, 4)
    assert worse.value == pytest.approx(-1)
    assert worse.met is False


def test_every_case_is_a_valid_method():
    assert all(Method(repair=repair).repair == repair for repair in METHODS.values())
