"""A ladder of quantization methods: cheap rungs rank policies, dear rungs decide the final front.

Rung 0 is the study's method; strategies see nothing else. Afterwards every further rung
re-evaluates the front of the rung below (and the baselines) on the search split. A ranking found
with one method need not hold for the next: Kendall's tau between adjacent rungs is measured on
policies spread over the whole space, printed and recorded. Where it is low, more than the front
climbs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from search import fronts
from search.evaluate import Evaluator
from search.objectives import objective
from search.plan import Plan
from search.progress import Bar, say
from search.records import Result, decode_codes
from search.stats import bootstrap_pairs, kendall_tau
from spaces.policy import Policy
from spaces.space import SearchSpace

TRUSTED_TAU = 0.6
"""Below it a ranking on one rung says little about the next (successive halving needs more)."""

WIDE = 3
"""Fronts, one behind the other, that climb where the ranking is not trusted."""


@dataclass(frozen=True)
class Agreement:
    """How far two adjacent rungs rank policies alike.

    Attributes:
        lower, upper: names of the methods.
        kendall_tau: over all policies; NaN when a rung tells none of them apart.
        low, high: 95 % bootstrap interval over policies.
        n: number of policies both rungs could evaluate.
        seconds: spent on the upper rung's evaluations.
    """

    lower: str
    upper: str
    kendall_tau: float
    low: float
    high: float
    n: int
    seconds: float

    @property
    def trusted(self) -> bool:
        """Whether the lower rung's ranking carries over."""
        return self.kendall_tau > TRUSTED_TAU

    def __str__(self) -> str:
        warning = "" if self.trusted else f"; not above {TRUSTED_TAU:g}, so {WIDE} fronts climb"
        return (
            f"rungs {self.lower} and {self.upper}: Kendall tau {self.kendall_tau:.2f} "
            f"[{self.low:.2f}, {self.high:.2f}] on {self.n} policies{warning}"
        )


@dataclass(frozen=True)
class Climbed:
    """What the ladder found.

    Attributes:
        table: the candidate table with qualities of the last rung; candidates that did not climb
            have the status ``"left"``.
        evaluator: of the last rung.
        agreements: between adjacent rungs, from below.
    """

    table: pd.DataFrame
    evaluator: Evaluator
    agreements: tuple[Agreement, ...]

    def to_json(self, front: Mapping[str, Any]) -> dict[str, Any]:
        """Plain data for ``front.json``; NaN is written as null.

        Args:
            front: fronts, picks and policies of the last rung, as ``front.json`` has rung 0's.
        """
        agreements = [
            {key: None if value != value else value for key, value in asdict(item).items()}
            for item in self.agreements
        ]
        kept = {key: front[key] for key in ("fronts", "picks", "policies")}
        return {"method": self.evaluator.method.name, "agreements": agreements, **kept}


def climb(plan: Plan, evaluator: Evaluator, table: pd.DataFrame) -> Climbed:
    """Re-evaluates fronts rung by rung; with one rung nothing happens.

    Args:
        plan: of the study.
        evaluator: of rung 0.
        table: all candidates with their costs, qualities of rung 0.
    """
    ladder, agreements = plan.settings.ladder, []
    policies = spread_policies(plan.space, ladder.policies, np.random.default_rng(0))
    methods = ladder.methods(plan.settings.method)
    below = _losses(plan, evaluator, policies, 0) if len(methods) > 1 else np.empty(0)
    for rung, method in enumerate(methods[1:], start=1):
        started = time.perf_counter()
        evaluator_above = replace(evaluator, method=method)
        above = _losses(plan, evaluator_above, policies, rung)
        seconds = time.perf_counter() - started
        found = agreement(evaluator.method.name, method.name, below, above, seconds)
        say(str(found))
        agreements.append(found)
        rows = _climbers(plan, table, 1 if found.trusted else WIDE)
        table = _reevaluated(plan, evaluator_above, table, rows, rung)
        evaluator, below = evaluator_above, above
    return Climbed(table, evaluator, tuple(agreements))


def agreement(
    lower: str, upper: str, below: np.ndarray, above: np.ndarray, seconds: float = 0.0
) -> Agreement:
    """Kendall's tau of two rungs' losses ``[n]``; policies that failed on either are left out."""
    usable = np.isfinite(below) & np.isfinite(above)
    below, above = below[usable], above[usable]
    if len(below) < 2:
        return Agreement(lower, upper, np.nan, np.nan, np.nan, len(below), seconds)
    low, high = bootstrap_pairs(below, above, np.random.default_rng(0), kendall_tau)
    return Agreement(lower, upper, kendall_tau(below, above), low, high, len(below), seconds)


def spread_policies(space: SearchSpace, count: int, rng: np.random.Generator) -> list[Policy]:
    """Different policies, evenly spread from all-first to all-last choices.

    Policy ``i`` draws every group's choice around the share ``i / (count - 1)`` of its list, so
    that the whole range of the space is there where choices are listed in the order of cost.
    """
    found: dict[str, Policy] = {}
    for share in np.linspace(0, 1, count):
        codes = rng.binomial(space.sizes - 1, share)
        policy = space.policy(codes)
        found.setdefault(policy.policy_id, policy)
    return list(found.values())


def _losses(plan: Plan, evaluator: Evaluator, policies: list[Policy], rung: int) -> np.ndarray:
    """Quality of policies as something to minimise, NaN where they failed."""
    quality = plan.settings.objective.quality
    bar = Bar(f"rung {evaluator.method.name}")
    losses = []
    for number, policy in enumerate(policies, start=1):
        result = evaluator.evaluate([policy], rung=rung)[0]
        losses.append(objective(quality).to_min(float(getattr(result, quality))))
        bar(number, len(policies), "policies")
    return np.array(losses)


def _climbers(plan: Plan, table: pd.DataFrame, layers: int) -> list[int]:
    """Rows of the first fronts of every cost metric, and of the baselines."""
    rows = set(fronts.by_tag(table).values())
    for metric in plan.settings.objective.costs:
        rest = table.reset_index(drop=True)
        for _ in range(layers):
            found = fronts.front_rows(rest, plan.settings.objective.quality, metric)
            rows |= set(found)
            rest = rest.assign(
                status=[
                    "left" if row in found else status for row, status in enumerate(rest["status"])
                ]
            )
    return sorted(rows)


def _reevaluated(
    plan: Plan, evaluator: Evaluator, table: pd.DataFrame, rows: list[int], rung: int
) -> pd.DataFrame:
    """The table with new qualities in ``rows``; all other rows are left behind."""
    result = table.reset_index(drop=True).assign(status="left")
    known: dict[str, Result] = {}
    bar = Bar(f"climbing to {evaluator.method.name}")
    for number, row in enumerate(rows, start=1):
        policy = plan.space.policy(decode_codes(str(table.iloc[row]["codes"])))
        if policy.policy_id not in known:
            known[policy.policy_id] = evaluator.evaluate([policy], rung=rung)[0]
        found = known[policy.policy_id]
        for name in ("ce", "kl", "accuracy", "standard_error", "quality_key", "status", "eval_s"):
            result.loc[row, name] = getattr(found, name)
        bar(number, len(rows), "policies")
    return result
