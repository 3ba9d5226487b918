"""Predicted against measured latency of whole networks, policies drawn by seed.

Five networks: the three shipped tasks (the language model as one decode step) and two with random
weights in the shapes of ResNet-18 (arXiv 1512.03385) and MobileNetV2 (arXiv 1801.04381). A case
whose noise floor stays above the limit after repetition is reported as noise, without its errors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hw_profiles.backends import load_backend
from hw_profiles.hw import HwConfig
from hw_profiles.keys import required_keys
from hw_profiles.latency import MOST_NOISE, LatencyModel, Target, edges_of, load_or_fit
from hw_profiles.profile import Profile
from hw_profiles.store import load_or_measure
from hw_profiles.table_cost import build_cost_model
from search.api import compose_plain
from search.benches.base import Figure, figure
from search.benches.networks import mobilenet_v2, resnet18
from search.latency import frame
from search.latency_figures import Figures, figures
from search.plan import device_of, load_task
from search.progress import say
from search.settings import Settings
from spaces.build import build_space
from spaces.inventory import trace
from spaces.space import SearchSpace

SUITE = "latency"
TASKS = ("digits_resnet", "digits_vit", "bytes_lm")
POLICIES = 100_000
TABLE_SECONDS, SCORE_SECONDS, QUERY_US = 180.0, 2.0, 20.0
TRANSFORMERS = ("digits_vit", "bytes_lm")
TAU_SLACK = 0.05


@dataclass(frozen=True)
class Case:
    """One network and how to make it."""

    name: str
    make: Callable[[], tuple[nn.Module, Tensor]]


def run(config: Mapping[str, Any]) -> Iterator[Figure]:
    """Yields the figures of all cases, or of the task named by ``only=`` in ``task.name``."""
    settings = Settings.from_dict({**config, **_space("cpu_ort")})
    for case in [*map(_shipped, TASKS), *_random_weights()]:
        yield from _case(case, settings)


def _space(name: str) -> dict[str, Any]:
    return {"space": compose_plain([f"space={name}"])["space"]}


def _shipped(task: str) -> Case:
    def make() -> tuple[nn.Module, Tensor]:
        on_device = load_task(Settings.from_dict(compose_plain([f"task={task}"]))).on_device
        return on_device.model, on_device.example_input

    return Case(task, make)


def _random_weights() -> list[Case]:
    def shaped(build: Callable[[], nn.Module]) -> Callable[[], tuple[nn.Module, Tensor]]:
        return lambda: (build().eval(), torch.zeros(1, 3, 128, 128))

    return [Case("resnet18", shaped(resnet18)), Case("mobilenet_v2", shaped(mobilenet_v2))]


def _case(case: Case, settings: Settings) -> Iterator[Figure]:
    hw = device_of(settings)
    backend = load_backend(hw)
    model, example = case.make()
    traced = trace(model, example)
    space = build_space(settings.space, traced, backend.supports)
    seconds = _table_seconds(space, hw)
    profile, _ = load_or_measure(space, hw, say)
    target = Target(backend.network(model, space.layers, example), space, backend, hw)
    found, profile, spent = load_or_fit(target, profile, say, again=True)
    yield from _errors(case.name, found)
    whole = seconds + spent
    yield figure(
        SUITE, case.name, "table_and_check_s", [whole], "s", bar=TABLE_SECONDS * _share(space)
    )
    yield from _speed(case.name, target, profile, found)


def _share(space: SearchSpace) -> float:
    """The bar is for fifty layers; larger networks may take longer in proportion."""
    return max(len(space.layers) / 50, 1.0)


def _table_seconds(space: SearchSpace, hw: HwConfig) -> float:
    """Measures all of the space's entries anew, without the cache."""
    backend = load_backend(hw)
    started = time.perf_counter()
    backend.measure(required_keys(space, backend, hw.batch, hw.threads), say)
    return time.perf_counter() - started


def _errors(case: str, model: LatencyModel) -> Iterator[Figure]:
    found = figures(frame(model.checks))
    assert found is not None, "the cases have mixed policies"
    noise = _one(case, "noise_floor", found.noise, found.n, bar=MOST_NOISE)
    yield noise
    if not noise.met:
        return
    least = 0.08 if case in TRANSFORMERS else 0.05
    bar = max(1.5 * found.noise, least)
    yield _one(case, "additive_mape", found.additive.mape, found.n, bar=bar)
    yield _one(case, "node_sum_mape", found.node_sum.mape, found.n, bar=bar)
    yield _one(case, "unfitted_mape", found.raw_mape, found.n)
    yield from _rankings(case, found)


def _rankings(case: str, found: Figures) -> Iterator[Figure]:
    least = found.self_tau - TAU_SLACK
    for name, accuracy in (("additive", found.additive), ("node_sum", found.node_sum)):
        made = _one(case, f"{name}_tau", accuracy.tau, found.n, bar=least, better="higher")
        yield replace(made, interval=(accuracy.tau_low, accuracy.tau_high))
    yield _one(case, "self_tau", found.self_tau, found.n, better="higher")
    yield _one(case, "bops_tau", found.bops_tau, found.n, better="higher")
    yield _one(case, "size_tau", found.size_tau, found.n, better="higher")


def _one(
    case: str,
    metric: str,
    value: float,
    n: int,
    *,
    bar: float | None = None,
    better: str = "lower",
) -> Figure:
    made = figure(SUITE, case, metric, [value], "share", bar=bar, better=better)
    return replace(made, n=n)


def _speed(case: str, target: Target, profile: Profile, found: LatencyModel) -> Iterator[Figure]:
    space, backend = target.space, target.backend
    model = build_cost_model(space, profile, backend, edges=edges_of(space, backend, found))
    codes = space.sample(np.random.default_rng(0), POLICIES)
    batch, single = [], []
    for _ in range(5):
        started = time.perf_counter()
        model.costs(codes)
        batch.append(time.perf_counter() - started)
    for row in codes[:2000]:
        started = time.perf_counter()
        model.costs(row)
        single.append(1e6 * (time.perf_counter() - started))
    yield figure(SUITE, case, "score_100k_s", batch, "s", bar=SCORE_SECONDS)
    per_policy = [1e6 * seconds / POLICIES for seconds in batch]
    yield figure(SUITE, case, "policy_us_in_batches", per_policy, "us", bar=QUERY_US)
    yield figure(SUITE, case, "policy_us_alone", single, "us")
