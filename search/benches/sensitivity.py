"""Scores compared: what they cost, and how well they rank choices by their measured effect.

Every score is computed on the calibration split. The reference is the change of cross-entropy
on search-validation when one group alone takes a choice, which no score has seen. Whole policies
drawn by seed tell how well sums of scores and surrogates rank what a search compares.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from quant.errors import UsageError
from quant.sensitivity.base import ScoreTable
from quant.sensitivity.shifts import LogitShifts, logit_shifts
from search.benches.base import Figure, figure
from search.evaluate import Evaluator
from search.plan import Plan, make_plan
from search.progress import say
from search.settings import Settings
from search.stats import spearman
from search.study import score_context
from search.targets import build
from spaces.baselines import float_codes

SUITE = "sensitivity"
POLICIES = 60
ROUNDS = 3
PREFIX_BAR = 0.6
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


def run(config: Mapping[str, Any]) -> Iterator[Figure]:
    """Yields cost and rank correlations of every configured score."""
    plan = make_plan(Settings.from_dict(config))
    evaluator = Evaluator(plan.task, plan.space, plan.settings.method)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the CPU clock counts one thread
    try:
        yield from _compared(plan, evaluator)
    finally:
        torch.set_num_threads(threads)


def _compared(plan: Plan, evaluator: Evaluator) -> Iterator[Figure]:
    yield from _prefixes(plan, evaluator)
    alone, effect = _single(plan, evaluator)
    policies = plan.space.sample(np.random.default_rng(0), POLICIES)
    truth = _losses(plan, evaluator, policies)
    for kind, target in plan.settings.scores.items():
        score = build(target, plan.settings.plugins, where=f"score.{kind}")
        try:
            table = score.compute(score_context(plan, evaluator))
        except UsageError as refusal:
            say(f"{kind}: {str(refusal).splitlines()[0]}")
            continue
        yield from _figures(plan, kind, table, (alone, effect), (policies, truth))


def _prefixes(plan: Plan, evaluator: Evaluator) -> Iterator[Figure]:
    """Work of all single-layer passes against whole forwards, counted and timed."""
    ctx, found = score_context(plan, evaluator), list[LogitShifts]()
    ratios = []
    for _ in range(ROUNDS):
        seconds = []
        for replay in (True, False):
            started = time.thread_time()
            found.append(logit_shifts(ctx, replay=replay))
            seconds.append(time.thread_time() - started)
        ratios.append(seconds[0] / seconds[1])
    counted = found[0].forward_equivalents / found[0].full_forwards
    case = plan.task.name
    yield figure(SUITE, case, "prefix_work_share", [counted], "share", bar=PREFIX_BAR)
    yield figure(SUITE, case, "prefix_time_ratio", ratios, "ratio", bar=PREFIX_BAR)


def _single(plan: Plan, evaluator: Evaluator) -> tuple[list[tuple[int, int]], Floats]:
    """Groups and choices, and the change of cross-entropy each alone makes on validation."""
    base = float_codes(plan.space)
    places, rows = [], []
    for g, group in enumerate(plan.space.groups):
        for c in range(len(group.choices)):
            row = base.copy()
            row[g] = c
            places.append((g, c))
            rows.append(row)
    losses = _losses(plan, evaluator, np.array([base, *rows]))
    return places, losses[1:] - losses[0]


def _losses(plan: Plan, evaluator: Evaluator, codes: Codes) -> Floats:
    found = evaluator.evaluate([plan.space.policy(row) for row in codes])
    return np.array([result.ce for result in found])


def _figures(
    plan: Plan,
    kind: str,
    table: ScoreTable,
    single: tuple[Sequence[tuple[int, int]], Floats],
    whole: tuple[Codes, Floats],
) -> Iterator[Figure]:
    case = f"{plan.task.name}/{kind}"
    places, effect = single
    values = np.array([table.value[place] for place in places])
    yield figure(SUITE, case, "seconds", [table.seconds], "s")
    yield figure(SUITE, case, "forward_equivalents", [table.forward_equivalents], "passes")
    rank = spearman(values, effect)
    yield figure(SUITE, case, "rank_single", [rank], "spearman", better="higher")
    policies, truth = whole
    sums = table.value[np.arange(policies.shape[1]), policies].sum(axis=1)
    rank = spearman(sums, truth)
    yield figure(SUITE, case, "rank_policies_sum", [rank], "spearman", better="higher")
    if table.surrogate is not None:
        found = table.surrogate.predict(policies)
        rank = spearman(np.asarray(found.get("ce", found.get("kl"))), truth)
        yield figure(SUITE, case, "rank_policies_surrogate", [rank], "spearman", better="higher")
