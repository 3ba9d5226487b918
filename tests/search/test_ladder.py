"""The ladder: spread policies, agreement of rankings, and settings."""

import math

import numpy as np
import pytest

from quant.errors import UsageError
from quant.method import Method
from search.ladder import agreement, spread_policies
from search.settings import LadderSettings
from tests.support.toy import toy_space


def test_policies_span_the_space_and_differ():
    space = toy_space(groups=6, choices=4)
    policies = spread_policies(space, 20, np.random.default_rng(0))
    codes = np.array([space.codes(policy) for policy in policies])
    assert (codes[0] == 0).all()
    assert (codes == space.sizes - 1).all(axis=1).any()
    assert len({policy.policy_id for policy in policies}) == len(policies) >= 15
    assert np.corrcoef(codes.sum(1), np.arange(len(codes)))[0, 1] > 0.9


def test_equal_rankings_agree_and_opposite_ones_do_not():
    below = np.arange(12.0)
    same, opposite = agreement("a", "b", below, below**2), agreement("a", "b", below, -below)
    assert (same.kendall_tau, same.low, same.trusted) == (1.0, 1.0, True)
    assert (opposite.kendall_tau, opposite.trusted) == (-1.0, False)
    assert "Kendall tau 1.00 [1.00, 1.00] on 12 policies" in str(same)
    assert "so 3 fronts climb" in str(opposite)


def test_failed_policies_are_left_out():
    below, above = np.array([1.0, np.nan, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, np.nan])
    assert agreement("a", "b", below, above).n == 2
    assert math.isnan(agreement("a", "b", below[:1], above[:1]).kendall_tau)


def test_rungs_are_methods():
    methods = LadderSettings(rungs=("gptq", "adaround+bn_reestimate")).methods(Method(name="rtn"))
    assert [m.name for m in methods] == ["rtn", "gptq", "adaround+bn_reestimate"]
    assert methods[2].repair == ("adaround", "bn_reestimate")


@pytest.mark.parametrize(
    ("rungs", "message"),
    [
        (("gptk",), "unknown repair 'gptk'"),
        (("gptq+adaround",), "both choose the codes"),
        (("gptq", "gptq"), "rung 'gptq' is there already"),
    ],
)
def test_rungs_that_cannot_be_meant_are_refused(rungs, message):
    with pytest.raises(UsageError, match=message):
        LadderSettings(rungs=rungs).methods(Method())


def test_too_few_policies_are_refused():
    with pytest.raises(UsageError, match=r"ladder.policies is 1"):
        LadderSettings(policies=1)
