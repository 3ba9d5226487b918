"""Strategies compared: hypervolume against the true optimum, on spaces where it is known.

Tabulated spaces give the exact optimum. A strategy sees what it sees in a study, a
:class:`~search.strategies.base.SearchContext`, and its true evaluations are looked up. Seeds
draw the calibration samples of the scores again, so that deterministic strategies have intervals
too. With ``task=NAME`` the space is too large to tabulate, and shares are of the union of all
that any strategy found.

Settings of this suite, next to those of bitfront-search:

* ``family=token|conv|all``: tabulated nets; constants were chosen on ``conv``;
* ``table=PATH``: a table from outside instead (layout in docs/strategies.md);
* ``strategies=[a,b]``: names in conf/strategy, all by default;
* ``seeds=[0,1,...]``;
* ``marks=[20,40,80]``: numbers of true evaluations that are quoted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from quant.errors import UsageError, unknown
from search.benches.arena import Arena, Run, TableArena, TaskArena, replay
from search.benches.base import Figure, figure
from search.pareto import hypervolume
from search.plan import build_strategy
from search.strategies.base import Strategy
from search.tabulated.build import tables
from search.tabulated.nets import DATA, NETS
from search.tabulated.table import Table

SUITE = "strategies"
MARKS = (20, 40, 80)
EQUIVALENTS = (60, 320)
SHARE_BAR, UNION_BAR = 0.94, 0.97
FAVOURITE = "lss"
EQUIVALENT_BARS = {(FAVOURITE, 60): SHARE_BAR, ("dnas", 320): 0.90}
SHARE_BARS = {(FAVOURITE, 40): SHARE_BAR, ("rl", 80): 0.93}
FAMILIES = ("token", "conv", "all")
SEEDS, TASK_SEEDS = 10, 3
TASK_MARKS = (20, 40)


@dataclass(frozen=True)
class Lead:
    """A strategy that is to be ahead of others (of all when empty) at some marks."""

    strategy: str
    marks: tuple[int, ...]
    over: tuple[str, ...] = ()


LEADS = (
    Lead(FAVOURITE, (40, 80)),
    Lead("rl", (80,), ("haq", "random")),
    Lead("haq", (320,), ("random",)),
)


@dataclass(frozen=True)
class Options:
    """Settings of this suite, see the module docstring."""

    family: str = "token"
    table: str = ""
    strategies: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    task: bool = False
    marks: tuple[int, ...] = MARKS


def read(overrides: Sequence[str]) -> Mapping[str, Any]:
    """The composed configuration of every strategy, with this suite's own settings beside it.

    Raises:
        UsageError: a setting that does not exist, or an unknown family or strategy.
    """
    import yaml

    from search.api import compose_plain

    own: dict[str, Any] = {
        "family": "token",
        "table": "",
        "strategies": [],
        "seeds": [],
        "marks": [],
    }
    rest = []
    for word in overrides:
        key, _, value = word.partition("=")
        if key in own:
            own[key] = yaml.safe_load(value)
        else:
            rest.append(word)
    known = strategy_names()
    for name in own["strategies"]:
        if name not in known:
            raise unknown("strategy", name, known, where="strategies")
    if own["family"] not in FAMILIES:
        raise unknown("family", str(own["family"]), FAMILIES, where="family")
    if not all(isinstance(seed, int) for seed in own["seeds"]):
        raise UsageError("seeds are not all integers", where="seeds", expected="seeds=[0,1,2]")
    if not all(isinstance(mark, int) and mark > 0 for mark in own["marks"]):
        raise UsageError("marks are not all positive integers", where="marks")
    chosen = tuple(own["strategies"]) or known
    task = any(word.startswith("task=") for word in rest)
    seeds = tuple(own["seeds"]) or tuple(range(TASK_SEEDS if task else SEEDS))
    scores = _names("score")
    config = compose_plain(
        [*rest, f"strategy=[{','.join(chosen)}]", f"score=[{','.join(scores)}]"]
    )
    marks = tuple(own["marks"]) or MARKS
    options = Options(str(own["family"]), str(own["table"]), chosen, seeds, task, marks)
    return {**config, "bench": options}


def strategy_names() -> tuple[str, ...]:
    """Every strategy there is a file for."""
    return _names("strategy")


def _names(group: str) -> tuple[str, ...]:
    import conf

    folder = Path(str(conf.__file__)).parent / group
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def run(config: Mapping[str, Any]) -> Iterator[Figure]:
    """Yields one figure per run, medians over seeds, over spaces, and the lead of ``lss``."""
    options = config["bench"]
    if options.task:
        yield from _large(config, options)
        return
    runs: list[Run] = []
    for table in _tables(options):
        for done in _runs(TableArena(table), config, options, max(options.marks)):
            runs.append(done)
            yield from _of_run(done, options)
        yield from _medians(table.name, [r for r in runs if r.space == table.name], options)
    if len({r.space for r in runs}) > 1:
        yield from _medians(options.family, runs, options, bars=True)
    space = options.family if not options.table else runs[0].space
    for ahead in LEADS:
        yield from _leads(space, runs, ahead, options)


def _tables(options: Options) -> Iterator[Table]:
    if options.table:
        yield Table.load(Path(options.table))
        return
    for name, (net, _) in tables().items():
        if options.family in ("all", NETS[net].family):
            yield Table.load(DATA / f"{name}.npz")


def _runs(
    arena: Arena, config: Mapping[str, Any], options: Options, evaluations: int
) -> Iterator[Run]:
    """Every strategy with every seed; strategies the space has no scores for are left out."""
    for name in options.strategies:
        strategy = _strategy(name, config)
        if not all(arena.has(kind) for kind in strategy.needs()):
            continue
        if strategy.needs_model and arena.trainable is None:
            continue
        try:
            strategy.check(arena.space)
        except UsageError:
            continue
        for seed in options.seeds:
            yield replay(name, _strategy(name, config), arena, seed, evaluations)


def _strategy(name: str, config: Mapping[str, Any]) -> Strategy:
    return build_strategy(name, config["strategy"][name], tuple(config.get("plugins", ())))


def _of_run(done: Run, options: Options) -> Iterator[Figure]:
    for mark in options.marks:
        case = f"{done.space}/{done.strategy}@{mark}/seed{done.seed}"
        yield _share(case, [done.share(mark)])


def _medians(
    space: str, runs: Sequence[Run], options: Options, *, bars: bool = False
) -> Iterator[Figure]:
    for name, own in _by_strategy(runs).items():
        for mark in options.marks:
            values = [r.share(mark) for r in own]
            bar = SHARE_BARS.get((name, mark)) if bars else None
            yield _share(f"{space}/{name}@{mark}", values, bar)
        for equivalents in EQUIVALENTS:
            counted = [r.share_at(equivalents) for r in own]
            bar = EQUIVALENT_BARS.get((name, equivalents)) if bars else None
            yield _share(f"{space}/{name}@{equivalents}eq", counted, bar)
        seconds = [r.seconds for r in own]
        yield figure(SUITE, f"{space}/{name}@{max(options.marks)}", "own_seconds", seconds, "s")


def _leads(space: str, runs: Sequence[Run], lead: Lead, options: Options) -> Iterator[Figure]:
    """How far one strategy is ahead of others, run by run of equal seeds."""
    grouped = _by_strategy(runs)
    own = grouped.pop(lead.strategy, [])
    for name, others in grouped.items():
        if not own or (lead.over and name not in lead.over):
            continue
        for mark in sorted(set(lead.marks) & set(options.marks)):
            apart = [a.share(mark) - b.share(mark) for a, b in zip(own, others, strict=True)]
            case = f"{space}/{lead.strategy}-over-{name}@{mark}"
            yield figure(SUITE, case, "lead", apart, "share", bar=0.0, better="higher")


def _large(config: Mapping[str, Any], options: Options) -> Iterator[Figure]:
    arena = TaskArena.of(config)
    runs = list(_runs(arena, config, options, max(TASK_MARKS)))
    for (metric, point), mark in product(arena.references.items(), TASK_MARKS):
        reference = np.array(point)
        best = hypervolume(np.concatenate([r.points[:mark] for r in runs]), reference)
        for name, own in _by_strategy(runs).items():
            shares = [hypervolume(r.points[:mark], reference) / best for r in own]
            bar = UNION_BAR if name == FAVOURITE and mark == 40 else None
            yield _share(f"{arena.name}/{name}@{mark}", shares, bar, metric)


def _by_strategy(runs: Sequence[Run]) -> dict[str, list[Run]]:
    return {
        name: [r for r in runs if r.strategy == name]
        for name in dict.fromkeys(r.strategy for r in runs)
    }


def _share(
    case: str, values: Sequence[float], bar: float | None = None, metric: str = "hypervolume_share"
) -> Figure:
    return figure(SUITE, case, metric, np.asarray(values).tolist(), "share", bar=bar,
                  better="higher")  # fmt: skip
