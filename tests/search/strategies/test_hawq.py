import numpy as np
import pytest

from quant.errors import UsageError
from quant.sensitivity.base import ScoreTable
from search.solvers.front_dp import solve_front
from search.solvers.problem import from_tables
from search.strategies.base import SearchContext
from search.strategies.hawq import HawqStrategy
from tests.support.toy import ToyCosts, ToyJudge, toy_space

SPACE = toy_space(groups=4, choices=3)
COSTS = ToyCosts(SPACE)
CURVATURE = np.array([3.0, 0.5, 2.0, 1.0])
BITS = np.array([2, 3, 4])


def table(curvature=CURVATURE):
    value = np.full((4, 4), np.nan)
    value[:, :3] = CURVATURE[:, None] * 4.0**-BITS
    value[:, 3] = 0
    return ScoreTable("hutchinson", value, value * 0, 0.0, 1.0, curvature=curvature)


def asked(n=200, scores=None, metrics=("size_bytes",), **options):
    strategy = HawqStrategy(**options)
    scores = scores or {kind: table() for kind in strategy.needs()}
    context = SearchContext(SPACE, COSTS, scores, "ce", metrics, (), np.random.default_rng(0), n)
    strategy.start(context)
    codes = []
    while policies := strategy.ask(4):
        strategy.tell(ToyJudge(SPACE).evaluate(policies))
        codes += [tuple(int(c) for c in SPACE.codes(policy)) for policy in policies]
    return codes


def test_version_1_lowers_the_flattest_layer_first_level_by_level():
    path = sorted(asked(version=1), key=lambda codes: -sum(codes))
    assert path[:6] == [
        (2, 2, 2, 2), (2, 1, 2, 2), (2, 1, 2, 1), (2, 1, 1, 1), (1, 1, 1, 1), (1, 0, 1, 1),
    ]  # fmt: skip
    assert path[-1] == (0, 0, 0, 0)
    assert len(path) == 1 + 4 * 2


@pytest.mark.parametrize("version", [1, 2])
def test_bits_follow_the_order_of_curvature_in_versions_1_and_2(version):
    order = np.argsort(CURVATURE)
    for codes in asked(version=version):
        assert (np.diff(np.array(codes)[order]) >= 0).all()


def test_version_2_keeps_what_is_nondominated_among_monotone_assignments():
    every = [
        c
        for c in np.ndindex(3, 3, 3, 3)
        if (np.diff(np.array(c)[np.argsort(CURVATURE)]) >= 0).all()
    ]
    assert set(asked(version=2)) <= set(every)
    score, cost = (
        [t[range(4), c].sum() for c in every] for t in (table().value, COSTS.table("size_bytes"))
    )
    best = {
        every[i]
        for i in range(len(every))
        if not any(
            score[j] <= score[i]
            and cost[j] <= cost[i]
            and (score[j], cost[j]) != (score[i], cost[i])
            for j in range(len(every))
        )
    }
    assert len(asked(version=2)) == len(
        {(score[every.index(c)], cost[every.index(c)]) for c in best}
    )


def test_version_3_finds_optima_of_the_additive_problem_only():
    problem = from_tables(table().value, [COSTS.table("size_bytes")], SPACE.sizes)
    front = solve_front(problem)
    found = asked(version=3)
    for codes in found:
        score = table().value[range(4), codes].sum()
        cost = COSTS.table("size_bytes")[range(4), codes].sum()
        assert score == pytest.approx(front.score[front.best([cost])])
    assert len(found) > 5


def test_version_3_solves_no_interval_whose_ends_agree(monkeypatch):
    calls = []
    import search.strategies.hawq as module

    solve = module.solve
    monkeypatch.setattr(module, "solve", lambda *args: calls.append(1) or solve(*args))
    found = asked(version=3)
    assert len(calls) < 257
    assert len(set(found)) == len(found)


def test_a_score_without_curvature_is_refused_with_the_version_that_works():
    with pytest.raises(UsageError) as caught:
        asked(version=2, score="kl", scores={"kl": table(curvature=None)})
    assert "score 'kl' tells no curvature" in str(caught.value)
    assert "version: 3" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"version": 4}, "expected: 1, 2 or 3"), ({"solver": "cbs"}, "did you mean 'cbc'?")],
)
def test_options_that_do_not_exist_are_refused(options, message):
    with pytest.raises(UsageError) as caught:
        HawqStrategy(**options)
    assert message in str(caught.value)
