"""Everything that is decided before time is spent: task, space, table, costs, trials."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hw_profiles.backends import load_backend
from hw_profiles.cost import CostModel
from hw_profiles.hw import HwConfig
from hw_profiles.latency import Check
from hw_profiles.profile import Profile
from hw_profiles.store import load_or_measure
from hw_profiles.table_cost import build_cost_model
from quant.errors import UsageError
from search.latency import predictor
from search.progress import Bar, say
from search.settings import Settings
from search.strategies.base import Strategy
from search.targets import build
from search.tasks.base import Task
from search.tasks.synthetic import with_calibration
from spaces.baselines import float_codes
from spaces.build import build_space
from spaces.constraints import Constraint, check_feasible
from spaces.describe import describe
from spaces.inventory import trace
from spaces.space import SearchSpace


@dataclass(frozen=True)
class Plan:
    """A study that is ready to run.

    Attributes:
        settings: the checked configuration.
        task: model and data.
        space: resolved search space.
        profile: latency table in use.
        costs: cost model over the space.
        constraints: hard limits in absolute units.
        table_seconds: time spent measuring missing table entries and the end-to-end check.
        checks: policies predicted and measured end to end.
    """

    settings: Settings
    task: Task
    space: SearchSpace
    profile: Profile
    costs: CostModel
    constraints: tuple[Constraint, ...]
    table_seconds: float
    checks: tuple[Check, ...] = ()

    @property
    def workers(self) -> int:
        """Trials that run at the same time."""
        return self.settings.runner.workers or os.cpu_count() or 1

    def strategies(self) -> dict[str, Strategy]:
        """Fresh instances of the chosen strategies by name."""
        return {
            name: build_strategy(name, config, self.settings.plugins)
            for name, config in self.settings.strategies.items()
        }


def build_strategy(name: str, config: Mapping[str, Any], plugins: tuple[str, ...]) -> Strategy:
    """Instantiates one strategy from its configuration.

    Raises:
        UsageError: its target is not a strategy or an option is unknown.
    """
    if not isinstance(config, Mapping):
        raise UsageError(
            f"strategy.{name} is {config!r}", where=f"strategy.{name}", expected="_target_: ..."
        )
    made = build(config, plugins, where=f"strategy.{name}")
    if not isinstance(made, Strategy):
        raise UsageError(
            f"strategy '{name}' is a {type(made).__name__}",
            where=f"strategy.{name}._target_",
            expected="a subclass of search.strategies.base.Strategy",
        )
    return made


def make_plan(settings: Settings, task: Task | None = None) -> Plan:
    """Loads the task, resolves the space and makes sure its latency table is there.

    Args:
        settings: the checked configuration.
        task: used instead of building ``settings.task`` (notebooks).

    Raises:
        BitfrontError: one of its kinds; nothing has been written to the run directory.
    """
    strategies = [
        build_strategy(name, config, settings.plugins)
        for name, config in settings.strategies.items()
    ]
    assert strategies  # settings refuse an empty selection
    task = with_calibration(task or load_task(settings), settings.method)
    device = device_of(settings)
    backend = load_backend(device)
    traced = trace(task.on_device.model, task.on_device.example_input)
    if traced.warning:
        say(f"warning: {traced.warning}")
    space = build_space(settings.space, traced, backend.supports)
    profile, table_seconds = load_or_measure(space, device, say)
    found = predictor(task, space, profile, backend, device, say)
    costs = build_cost_model(space, found.profile, backend, device.batch, found.edges)
    constraints = _constraints(settings, space, costs)
    return Plan(
        settings,
        task,
        space,
        found.profile,
        costs,
        constraints,
        table_seconds + found.seconds,
        found.checks,
    )


def load_task(settings: Settings) -> Task:
    """Builds the configured task, training or loading its model.

    Raises:
        UsageError: the target does not build a task.
    """
    made = build(settings.task, settings.plugins, where="task", progress=Bar("task"))
    if not isinstance(made, Task):
        raise UsageError(
            f"task target returned a {type(made).__name__}",
            where="task._target_",
            expected="a search.tasks.base.Task",
        )
    return made


def describe_plan(plan: Plan) -> str:
    """What is about to happen, as text: task, space, table, trials and budget."""
    settings, task = plan.settings, plan.task
    trials = [f"{name}" for name in settings.strategies]
    budget = settings.budget
    limit = f", at most {budget.seconds:g} s" if budget.seconds else ""
    splits = f"calibration {task.calibration.n}, search {task.search.n}, test {task.test.n}"
    lines = [
        f"study   {settings.study} -> {settings.run_dir}",
        f"task    {task.name}: {task.title} ({splits} samples)",
        f"table   {plan.profile.name} [{plan.profile.hash[:12]}]",
        f"trials  {', '.join(trials)} x seeds {list(settings.seeds)}: "
        f"{budget.evaluations} evaluations each{limit}, {plan.workers} at a time "
        f"({settings.runner.kind})",
        f"fronts  {settings.objective.quality} against {', '.join(settings.objective.costs)}",
    ]
    lines += [f"limit   {item.metric} <= {item.limit:g}" for item in plan.constraints]
    return "\n".join([*lines, "", describe(plan.space)])


def device_of(settings: Settings) -> HwConfig:
    """The one device of a study.

    Raises:
        UsageError: none or several are chosen.
    """
    if len(settings.hw) != 1:
        raise UsageError(
            f"{len(settings.hw)} devices chosen: {', '.join(settings.hw)}",
            where="hw",
            expected="one device",
            fix="hw=this",
        )
    ((name, values),) = settings.hw.items()
    return HwConfig.from_mapping(name, values)


def _constraints(
    settings: Settings, space: SearchSpace, costs: CostModel
) -> tuple[Constraint, ...]:
    """Absolute constraints, checked against what the space can reach."""
    tables = {metric: costs.table(metric) for metric in costs.metrics}
    floats = {name: float(v[0]) for name, v in costs.costs(float_codes(space)[None, :]).items()}
    return check_feasible(settings.space.constraints, tables, space, floats)
