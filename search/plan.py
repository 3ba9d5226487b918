"""Everything that is decided before time is spent: task, space, table, costs, trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hw_profiles.backends import load_backend
from hw_profiles.backends.throughput import Throughput
from hw_profiles.cost import CostModel
from hw_profiles.hw import HwConfig
from hw_profiles.joined import JoinedCosts
from hw_profiles.latency import Check
from hw_profiles.profile import Profile
from hw_profiles.pruning import without_losers
from hw_profiles.store import load_or_measure
from hw_profiles.table_cost import build_cost_model
from hw_profiles.validate import OpCheck
from quant.errors import UsageError
from search.latency import Predictor, predictor
from search.progress import Bar, say
from search.runner.cluster import LOCAL, check_runner, workers
from search.settings import Settings
from search.strategies.base import Strategy
from search.targets import build
from search.tasks.base import Task
from search.tasks.synthetic import with_calibration
from search.trackers.base import Tracker
from spaces.baselines import float_codes
from spaces.build import build_space
from spaces.choices import Choice
from spaces.config import SpaceConfig
from spaces.constraints import Constraint, check_feasible
from spaces.describe import describe
from spaces.inventory import TracedModel, trace
from spaces.layers import LayerSpec
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
        op_checks: op types of these policies, alone and inside the network.
        profiles: latency tables by device, the main one first.
    """

    settings: Settings
    task: Task
    space: SearchSpace
    profile: Profile
    costs: CostModel
    constraints: tuple[Constraint, ...]
    table_seconds: float
    checks: tuple[Check, ...] = ()
    op_checks: tuple[OpCheck, ...] = ()
    profiles: Mapping[str, Profile] = field(default_factory=dict)

    @property
    def cost_metrics(self) -> tuple[str, ...]:
        """Costs that get a front: the configured ones, on every device."""
        others = [name for name in self.costs.metrics if "@" in name]
        return tuple(
            metric
            for cost in self.settings.objective.costs
            for metric in (cost, *(name for name in others if name.startswith(f"{cost}@")))
        )

    @property
    def workers(self) -> int:
        """Trials that run at the same time."""
        return workers(self.settings.runner)

    def strategies(self) -> dict[str, Strategy]:
        """Fresh instances of the chosen strategies by name."""
        return {
            name: build_strategy(name, config, self.settings.plugins)
            for name, config in self.settings.strategies.items()
        }


def build_trackers(settings: Settings) -> dict[str, Tracker]:
    """The chosen trackers by name, each with what it needs.

    Raises:
        UsageError: a target is not a tracker, or its package is missing.
    """
    found = {}
    for name, config in settings.trackers.items():
        made = build(config, settings.plugins, where=f"tracker.{name}")
        if not isinstance(made, Tracker):
            raise UsageError(
                f"tracker '{name}' is a {type(made).__name__}",
                where=f"tracker.{name}._target_",
                expected="a subclass of search.trackers.base.Tracker",
            )
        made.check(name)
        found[name] = made
    return found


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
    check_runner(settings.runner)
    build_trackers(settings)
    strategies = [
        build_strategy(name, config, settings.plugins)
        for name, config in settings.strategies.items()
    ]
    task = with_calibration(task or load_task(settings), settings.method)
    devices = devices_of(settings)
    traced = trace(task.on_device.model, task.on_device.example_input)
    if traced.warning:
        say(f"warning: {traced.warning}")
    space = resolve_space(settings.space, traced, devices)
    for strategy in strategies:
        strategy.check(space)
    known = {device.name: _known(task, space, device) for device in devices}
    main = known[devices[0].name]
    if "latency_ms" in settings.objective.costs and len(devices) == 1:
        space = _without_losers(space, devices[0], main)
    models = {device.name: _costs(space, device, known[device.name]) for device in devices}
    costs = JoinedCosts(models) if len(devices) > 1 else models[devices[0].name]
    constraints = _constraints(settings, space, costs)
    return Plan(
        settings,
        task,
        space,
        main.profile,
        costs,
        constraints,
        sum(found.seconds for found in known.values()),
        main.checks,
        main.ops,
        {name: found.profile for name, found in known.items()},
    )


def resolve_space(
    config: SpaceConfig, traced: TracedModel, devices: Sequence[HwConfig]
) -> SearchSpace:
    """Layers x choices on one or several devices.

    A device that cannot run a choice at all cuts it; with ``kernels_only`` every device's
    missing kernels do.
    """
    backends = [load_backend(device) for device in devices]
    strict = [b for b in backends if isinstance(b, Throughput) and b.strict]
    asked = backends if config.kernels_only else strict

    def supports(layer: LayerSpec, choice: Choice) -> str | None:
        reasons = (backend.supports(layer, choice) for backend in asked)
        return next((reason for reason in reasons if reason is not None), None)

    if strict:
        config = replace(config, kernels_only=True)
    return build_space(config, traced, supports)


def _known(task: Task, space: SearchSpace, device: HwConfig) -> Predictor:
    """Table, conversions and check of one device."""
    profile, seconds = load_or_measure(space, device, say)
    found = predictor(task, space, profile, load_backend(device), device, say)
    return replace(found, seconds=found.seconds + seconds)


def _costs(space: SearchSpace, device: HwConfig, found: Predictor) -> CostModel:
    backend = load_backend(device)
    edges = found.edges(space) if found.edges else None
    return build_cost_model(space, found.profile, backend, device.batch, edges)


def _without_losers(space: SearchSpace, device: HwConfig, found: Predictor) -> SearchSpace:
    """Drops choices that gain nothing on the device, with one line."""
    kept = without_losers(space, _costs(space, device, found))
    lost = len(kept.cuts) - len(space.cuts)
    if lost:
        say(f"{lost} choices gain nothing on {device.name} (slower, not smaller) and are dropped")
    return kept


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
        f"{budget.evaluations} evaluations each{limit}, {_at_a_time(plan)} at a time "
        f"({settings.runner.kind})",
        f"fronts  {settings.objective.quality} against {', '.join(plan.cost_metrics)}",
    ]
    lines += [f"limit   {item.metric} <= {item.limit:g}" for item in plan.constraints]
    return "\n".join([*lines, "", describe(plan.space)])


def _at_a_time(plan: Plan) -> str:
    runner = plan.settings.runner
    if runner.address != LOCAL and not runner.workers:
        return f"as many as {runner.address} holds"
    return str(plan.workers)


def devices_of(settings: Settings) -> list[HwConfig]:
    """The devices of a study, the main one first.

    Raises:
        UsageError: none is chosen, or a setting of one is wrong.
    """
    if not settings.hw:
        raise UsageError(
            "0 devices chosen", where="hw", expected="at least one device", fix="hw=this"
        )
    return [HwConfig.from_mapping(name, values) for name, values in settings.hw.items()]


def device_of(settings: Settings) -> HwConfig:
    """The one device of a measurement.

    Raises:
        UsageError: none or several are chosen.
    """
    devices = devices_of(settings)
    if len(devices) != 1:
        raise UsageError(
            f"{len(devices)} devices chosen: {', '.join(settings.hw)}",
            where="hw",
            expected="one device",
            fix="hw=this",
        )
    return devices[0]


def _constraints(
    settings: Settings, space: SearchSpace, costs: CostModel
) -> tuple[Constraint, ...]:
    """Absolute constraints, checked against what the space can reach."""
    tables = {metric: costs.table(metric) for metric in costs.metrics}
    floats = {name: float(v[0]) for name, v in costs.costs(float_codes(space)[None, :]).items()}
    return check_feasible(settings.space.constraints, tables, space, floats)
