"""Cost of evaluating a candidate against a plain float forward over the same split.

Both run the folded model over the whole search-validation split, interleaved, one thread, CPU
clock. The candidate differs in every round, so switching policies is part of its cost;
quantized weights are cached as they are in a search after its first candidates.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from search.benches.base import Figure, figure, interleaved
from search.evaluate import Evaluator
from search.plan import make_plan
from search.settings import Settings

BAR = 1.3
ROUNDS = 25


def run(config: Mapping[str, Any]) -> Iterator[Figure]:
    """Yields the ratio for the configured task and space."""
    plan = make_plan(Settings.from_dict(config))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield _measure(Evaluator(plan.task, plan.space, plan.settings.method), plan.settings.study)
    finally:
        torch.set_num_threads(threads)


def _measure(evaluator: Evaluator, case: str) -> Figure:
    rng = np.random.default_rng(0)
    space = evaluator.space
    evaluator.float_logprobs("search")
    warm = [space.policy(np.minimum(code, space.sizes - 1)) for code in range(space.sizes.max())]
    evaluator.evaluate(warm)

    def candidate() -> None:
        evaluator.evaluate([space.policy(space.sample(rng, 1)[0])])

    def plain() -> None:
        evaluator.quantized.float_()
        evaluator.float_pass("search")

    seconds = interleaved([candidate, plain], ROUNDS, time.thread_time_ns)
    ratios = seconds[:, 0] / seconds[:, 1]
    return figure("evaluate", case, "candidate_over_float", ratios.tolist(), "ratio", bar=BAR)
