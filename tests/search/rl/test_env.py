"""The Gymnasium environment, as other libraries use it."""

import math

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from quant.errors import InfeasibleError
from search.rl.env import BitWidthEnv
from tests.search.rl.problems import additive


def make(judge=None, **options):
    problem, harm = additive(groups=4)
    judge = judge or (lambda codes: float(harm[np.arange(4), codes].sum()))
    return BitWidthEnv(problem, judge, **options), harm


@pytest.mark.filterwarnings("ignore")
def test_it_is_an_environment_by_the_checker_of_gymnasium():
    check_env(make()[0], skip_render_check=True)


def test_an_episode_builds_a_policy_and_is_paid_at_the_end():
    env, harm = make(budget=1.0)
    env.reset(seed=1)
    paid = []
    for action in (0, 1, 2, 3):
        assert env.action_masks().all()
        _, reward, done, cut, info = env.step(action)
        paid.append(reward)
        assert not cut
    assert done
    assert paid[:-1] == [0.0, 0.0, 0.0]
    assert info["codes"] == [0, 1, 2, 3]
    assert paid[-1] == -harm[np.arange(4), [0, 1, 2, 3]].sum() == -info["loss"]


def test_a_forbidden_choice_becomes_the_nearest_allowed_one():
    env, _ = make(budget=0.0)
    env.reset(seed=0)
    for _ in range(4):
        assert env.action_masks().tolist() == [True, False, False, False]
        *_, info = env.step(3)
        assert info["action"] == 0


def test_a_seed_draws_the_same_budgets():
    one, two = (make()[0] for _ in range(2))
    assert one.reset(seed=7)[1] == two.reset(seed=7)[1]
    assert one.reset()[1] == two.reset()[1]
    assert one.reset(options={"budget": 0.25})[0].tolist() == (
        two.reset(options={"budget": 0.25})[0].tolist()
    )


def test_a_loss_of_nan_fails_the_policy_and_training_goes_on():
    env, _ = make(lambda codes: math.nan, budget=1.0, penalty=3.0)
    env.reset(seed=0)
    for _ in range(4):
        _, reward, done, _, info = env.step(0)
    assert (reward, done, info["failed"]) == (-3.0, True, True)
    env.reset()


def test_an_unreachable_budget_is_refused_at_reset():
    env, _ = make()
    with pytest.raises(InfeasibleError, match="below the cheapest policy"):
        env.reset(options={"budget": -0.1})
    with pytest.raises(RuntimeError, match="reset the environment"):
        make()[0].action_masks()
