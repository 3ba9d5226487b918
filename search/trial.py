"""One trial: a strategy with a seed, driven against the evaluator until its budget ends.

The loop owns budget, de-duplication and journal (see :mod:`search.strategies.base`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from search.journal import JournalWriter
from search.records import Counters, JournalLine, Result
from search.strategies.base import SearchContext, Strategy
from spaces.policy import Policy
from spaces.space import SearchSpace

STALE_ASKS = 50
"""Consecutive asks without a new policy after which a strategy counts as exhausted."""


class Judge(Protocol):
    """What a trial needs of an evaluator."""

    def evaluate(self, policies: Sequence[Policy], split: str = "search") -> list[Result]:
        """Scores policies in order."""
        ...

    def key(self, policy: Policy, split: str = "search") -> str:
        """Identity of the evaluation of a policy."""
        ...


@dataclass(frozen=True)
class Budget:
    """Limits of one trial.

    Attributes:
        evaluations: distinct policies evaluated on search-validation.
        seconds: wall-clock seconds, or None.
        batch: policies asked for at a time.
    """

    evaluations: int
    seconds: float | None = None
    batch: int = 1


@dataclass(frozen=True)
class TrialName:
    """Identity of a trial and of this attempt at it."""

    strategy: str
    seed: int
    incarnation: str

    @property
    def trial(self) -> str:
        """``<strategy>-<seed>``."""
        return f"{self.strategy}-{self.seed}"

    @property
    def file(self) -> str:
        """Journal name."""
        return f"{self.trial}-{self.incarnation}.jsonl"


@dataclass
class TrialState:
    """What a running trial has done."""

    answers: dict[str, Result] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    seq: int = 0


def trial_rng(strategy: str, seed: int) -> np.random.Generator:
    """The generator of a trial; strategies with equal seeds draw independently."""
    return np.random.default_rng([seed, *strategy.encode()])


def run_trial(
    name: TrialName,
    strategy: Strategy,
    context: SearchContext,
    judge: Judge,
    journal: JournalWriter,
    budget: Budget,
    *,
    known: Mapping[str, Result] | None = None,
    spent: Counters = Counters(),  # noqa: B008 - frozen
    spent_s: float = 0.0,
    tags: Mapping[str, str] | None = None,
    on_line: Callable[[JournalLine], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    together: int = 1,
) -> int:
    """Drives a strategy to the end of its budget.

    Args:
        name: identity, used for the journal lines.
        strategy: not yet started.
        context: handed to the strategy.
        judge: evaluates policies.
        journal: receives one line per distinct candidate, before the next is asked for.
        budget: when to stop.
        known: results of an earlier incarnation by quality key; they are answered from memory,
            count towards the budget and are not written again.
        spent: work done before the trial, for example its scores.
        spent_s: seconds of that work.
        tags: names of policies by id.
        on_line: called after each line is written.
        stop: polled between batches; true ends the trial early.
        together: new policies handed to the judge at a time; a pool needs several, and a death
            loses at most as many.

    Returns:
        Number of distinct candidates, replayed ones included.
    """
    state = TrialState(answers=dict(known or {}))
    started = time.monotonic() - spent_s
    strategy.start(context)
    stale = 0
    while len(state.asked) < budget.evaluations and stale < STALE_ASKS and not stop():
        if budget.seconds is not None and time.monotonic() - started > budget.seconds:
            break
        policies = strategy.ask(min(budget.batch, budget.evaluations - len(state.asked)))
        if not policies:
            break
        before = len(state.asked)
        results = []
        keys = [judge.key(policy) for policy in policies]
        for place, (policy, key) in enumerate(zip(policies, keys, strict=True)):
            if key not in state.answers:
                ahead = dict(zip(keys[place:], policies[place:], strict=True))
                new = [name for name in ahead if name not in state.answers][:together]
                answers = judge.evaluate([ahead[name] for name in new])
                state.answers |= zip(new, answers, strict=True)
            result = state.answers[key]
            if key not in state.asked:
                state.asked.add(key)
                if known is None or key not in known:
                    own = strategy.work()
                    done = Counters(
                        spent.true, spent.surrogate + own.surrogate, spent.forward + own.forward
                    )
                    line = _line(name, context.space, policy, result, state, done, started, tags)
                    journal.append(line)
                    if on_line:
                        on_line(line)
                state.seq += 1
            results.append(result)
        strategy.tell(results)
        stale = stale + 1 if len(state.asked) == before else 0
    return len(state.asked)


def _line(
    name: TrialName,
    space: SearchSpace,
    policy: Policy,
    result: Result,
    state: TrialState,
    spent: Counters,
    started: float,
    tags: Mapping[str, str] | None,
) -> JournalLine:
    counters = Counters(spent.true + len(state.asked), spent.surrogate, spent.forward)
    return JournalLine(
        result=result,
        codes=tuple(space.codes(policy).tolist()),
        strategy=name.strategy,
        seed=name.seed,
        incarnation=name.incarnation,
        seq=state.seq,
        wall_s=time.monotonic() - started,
        counters=counters,
        tag=(tags or {}).get(policy.policy_id, ""),
        unix_s=time.time(),
    )
