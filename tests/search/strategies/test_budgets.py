"""Budgets are hard: nothing a strategy asks for exceeds a limit, whatever the limit is."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.errors import InfeasibleError
from search.plan import build_strategy
from search.strategies.base import SearchContext
from search.trial import trial_rng
from spaces.constraints import Constraint
from tests.contracts.test_strategies import COSTS, SHORT, SPACE, AnyScore
from tests.support.toy import ToyJudge, toy_trainable

CONF = Path(__file__).parents[3] / "conf" / "strategy"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))


def asked(name, limits, seed, evaluations=12):
    data = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    strategy = build_strategy(name, {**data[name], **SHORT.get(name, {})}, ())
    context = SearchContext(
        SPACE, COSTS, AnyScore(), "ce", ("size_bytes", "latency_ms"), limits,
        trial_rng(name, seed), evaluations, toy_trainable(SPACE),
    )  # fmt: skip
    judge, codes = ToyJudge(SPACE), []
    strategy.start(context)
    while len(codes) < evaluations and (policies := strategy.ask(3)):
        strategy.tell(judge.evaluate(policies))
        codes += [SPACE.codes(policy) for policy in policies]
    return np.array(codes, dtype=int).reshape(-1, len(SPACE.groups))


@pytest.mark.parametrize("name", NAMES)
@given(share=st.floats(0.0, 1.0), both=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=6, deadline=None)
def test_no_policy_exceeds_a_limit(name, share, both, seed):
    limits = []
    for metric in ("size_bytes", "latency_ms") if both else ("size_bytes",):
        table = COSTS.table(metric)[:, :4]
        low, high = table.min(axis=1).sum(), table.max(axis=1).sum()
        limits.append(Constraint(metric, float(low + share * (high - low))))
    codes = asked(name, tuple(limits), seed)
    costs = COSTS.costs(codes)
    for item in limits:
        assert (costs[item.metric] <= item.limit * (1 + 1e-12)).all()


def test_limits_nothing_satisfies_name_the_binding_groups_and_the_nearest_limit():
    low = COSTS.table("size_bytes")[:, :4].min(axis=1).sum()
    with warnings.catch_warnings(), pytest.raises(InfeasibleError) as caught:
        warnings.simplefilter("error")
        asked("lss", (Constraint("size_bytes", low / 2),), 0)
    message = str(caught.value)
    assert "'layer5' needs" in message
    assert f"at least {low:g}" in message


def test_the_cheapest_policy_alone_is_enough_to_start_from():
    low = float(COSTS.table("size_bytes")[:, :4].min(axis=1).sum())
    codes = asked("lss", (Constraint("size_bytes", low),), 0)
    assert len(codes) == 1
    assert COSTS.costs(codes)["size_bytes"][0] == low
