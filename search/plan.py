"""Everything that is decided before time is spent: task, space, table, costs, trials."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hw_profiles.backends.base import Backend
from hw_profiles.cost import CostModel
from hw_profiles.profile import Profile
from quant.errors import UsageError
from search.settings import Settings
from search.strategies.base import Strategy
from search.targets import build
from search.tasks.base import Task
from spaces.build import build_space
from spaces.constraints import Constraint, check_feasible
from spaces.inventory import trace
from spaces.space import SearchSpace

Say = Callable[[str], None]


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
        table_seconds: time spent measuring missing table entries.
    """

    settings: Settings
    task: Task
    space: SearchSpace
    profile: Profile
    costs: CostModel
    constraints: tuple[Constraint, ...]
    table_seconds: float

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
