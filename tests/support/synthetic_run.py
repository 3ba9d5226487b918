"""Writes a run directory as a finished study leaves it, from arithmetic instead of a model.

Losses add up per layer as ``sensitivity x 4^-bits`` with a small interaction of neighbours, so
that fronts, knees and sensitivities look like real ones and have a known shape.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from hw_profiles import footprint
from search import files
from search.records import Counters, JournalLine, Result
from search.table import candidate_table
from spaces.choices import FLOAT_CHOICE, parse_choice
from spaces.layers import LayerSpec, SkippedOp
from spaces.space import Cut, Group, SearchSpace
from tests.support.synthetic_front import make_front
from tests.support.synthetic_manifest import CLASSES, FLOAT_CE, config, manifest
from tests.support.synthetic_measured import write_export, write_latency_check, write_latency_ops

WEIGHT_BITS = (2, 3, 4, 6, 8)
BEGAN = 1_767_225_600.0
HOSTILE = "</script><img src=x onerror=alert(1)>"


@dataclass(frozen=True)
class Recipe:
    """What to write.

    Attributes:
        layers: number of layers, one group each.
        per_trial: candidates per trial.
        strategies: names; ``random`` samples uniformly, the others search ever better.
        seeds: one trial per strategy and seed.
        failed: number of failed candidates in the first trial.
        costs: cost metrics with a front.
        names: layer names that replace the first generated ones.
        n: samples per split.
        measured: policies measured end to end, 0 for no latency check.
        state: state written to status.json; ``running`` leaves front and Parquet out.
    """

    layers: int = 14
    per_trial: int = 40
    strategies: tuple[str, ...] = ("random", "greedy", "nsga2", "hawq")
    seeds: tuple[int, ...] = (0, 1, 2)
    failed: int = 2
    costs: tuple[str, ...] = ("size_bytes", "latency_ms")
    names: tuple[str, ...] = ()
    n: int = 600
    measured: int = 16
    state: str = "finished"
    study: str = "demo"
    data_hash: str = "d0d0"
    quality: str = "ce"
    salt: int = 0
    extra_manifest: dict = field(default_factory=dict)


def write_run(path, recipe=Recipe()):
    """Writes ``path`` and returns it."""
    path = Path(path)
    (path / "trials").mkdir(parents=True)
    space = make_space(recipe)
    judge = Judge(space, recipe)
    lines = make_lines(space, judge, recipe)
    for (strategy, seed), trial in _by_trial(lines).items():
        text = "".join(line.to_json() + "\n" for line in trial)
        (path / "trials" / f"{strategy}-{seed}-a.jsonl").write_text(text)
    files.write_json(path / "layers.json", space.to_json())
    files.write_json(path / "manifest.json", manifest(recipe))
    files.write_text(path / "config.yaml", config(recipe))
    files.write_json(path / "costs.json", judge.costs_json())
    files.write_json(
        path / "status.json",
        {"state": recipe.state, "message": "", "updated": "2026-01-01T00:03:00Z", "exit_code": 0},
    )
    (path / "run.log").write_text("study demo\nscore hutchinson: 14/14\n")
    _write_sensitivity(path, space, judge)
    if recipe.state != "running":
        table = candidate_table(lines, space, judge)
        files.write_table(path / "trials.parquet", table)
        front = make_front(space, judge, table, recipe)
        files.write_json(path / "front.json", front)
        files.write_policies(path, space, front["policies"])
        if recipe.measured:
            write_latency_check(path, front, recipe)
            write_latency_ops(path, front, recipe)
            write_export(path, front)
    return path


def make_space(recipe):
    rng = np.random.default_rng(11)
    layers = []
    for i in range(recipe.layers):
        stage = 1 + 3 * i // max(recipe.layers, 1)
        name = "stem" if i == 0 else f"stage{stage}.{(i - 1) // 2}.conv{1 + (i - 1) % 2}"
        name = "head" if i == recipe.layers - 1 else name
        name = recipe.names[i] if i < len(recipe.names) else name
        out = int(16 * 2 ** (stage - 1) * rng.choice([1, 1, 2]))
        linear = i == recipe.layers - 1
        shape = (CLASSES, 64) if linear else (out, 16 * stage, 3, 3)
        side = 32 // 2 ** (stage - 1)
        macs = int(np.prod(shape)) * (1 if linear else side * side)
        layers.append(
            LayerSpec(
                name=name,
                op="linear" if linear else "conv2d",
                index=i,
                weight_shape=shape,
                input_shape=(1, 64) if linear else (1, 16 * stage, side, side),
                output_shape=(1, CLASSES) if linear else (1, out, side, side),
                stride=() if linear else (1, 1),
                padding=() if linear else (1, 1),
                dilation=() if linear else (1, 1),
                groups=1,
                bias=True,
                params=int(np.prod(shape)) + shape[0],
                macs=macs,
                producers=("@input",) if i == 0 else (layers[-1].name,),
            )
        )
    offered = tuple(parse_choice(f"int{bits}src/int8ut") for bits in WEIGHT_BITS)
    groups = tuple(Group(x.name, (x.name,), offered, (FLOAT_CHOICE,)) for x in layers)
    return SearchSpace(
        "w23468",
        tuple(layers),
        groups,
        (SkippedOp("attention.matmul", "matmul", "both operands are activations"),),
        (Cut("stem", "int2src/int8ut", "first layer keeps at least 3 bits"),),
    )


class Judge:
    """Losses and costs of a space; both are exact functions of the codes."""

    metrics = ("size_bytes", "bops", "latency_ms")

    def __init__(self, space, recipe):
        self.space, self.recipe = space, recipe
        rng = np.random.default_rng(5 + recipe.salt)
        self.weight = rng.lognormal(0.3, 1.1, len(space.groups)) * 6 / len(space.groups)
        width = len(space.groups[0].all_choices)
        self.bits = np.array([c.weight.bits for c in space.groups[0].all_choices])
        size, bops, latency = (np.zeros((len(space.groups), width)) for _ in range(3))
        for g, group in enumerate(space.groups):
            layer = space.layer_named[group.name]
            for c, choice in enumerate(group.all_choices):
                size[g, c] = footprint.size_bytes(layer, choice)
                bops[g, c] = footprint.bops(layer, choice)
                # No real kernel below 4 bits: those cost what int8 costs.
                effective = {2: 8.2, 3: 8.1, 4: 5.5, 6: 8.05, 8: 8.0, 32: 20.0}[self.bits[c]]
                latency[g, c] = layer.macs * effective / 8 * rng.uniform(0.9, 1.1) / 5e7
        self._tables = {"size_bytes": size, "bops": bops, "latency_ms": latency}

    def table(self, metric):
        return self._tables[metric]

    def costs(self, codes):
        rows = np.arange(len(self.space.groups))
        return {name: table[rows, codes].sum(axis=1) for name, table in self._tables.items()}

    def harm(self, codes):
        bits = np.minimum(self.bits[np.asarray(codes)], 16)
        return self.weight * 4.0 ** (1.0 - bits)

    def result(self, codes, split="search"):
        harm = self.harm(codes)
        excess = float(harm.sum() + 2 * np.sqrt(harm[1:] * harm[:-1]).sum())
        policy = self.space.policy(codes)
        seed = int(policy.policy_id, 16) + (split == "test")
        n = self.recipe.n
        wobble = np.random.default_rng(seed).normal(0, 0.004)
        ce = FLOAT_CE + min(excess, 2.2) + wobble
        share = max(0.1, 0.957 * np.exp(-0.55 * excess) + wobble / 3)
        accuracy = round(share * n) / n
        key = f"{split}-{policy.policy_id}"
        return Result(
            key,
            policy.policy_id,
            ce,
            excess * 0.8,
            accuracy,
            n,
            0.4 * ce**0.5 / n**0.5,
            eval_s=0.05,
        )

    def provenance(self):
        computed = {"kind": "computed"}
        return {
            "profile_hash": "abcd",
            "profile": "this",
            "size_bytes": {**computed, "detail": "packed weights, scales and biases"},
            "bops": {**computed, "detail": "MACs x weight bits x activation bits"},
            "latency_ms": {
                "kind": "measured",
                "kinds": ["measured"],
                "device": "Example CPU @ 2.0 GHz",
                "runtime": "onnxruntime 1.31.1",
                "threads": 1,
                "batch": 1,
                "date": "2026-01-01",
                "entries": 84,
                "preempted": 0,
                "storage_only": {
                    layer.name: {
                        f"int{bits}src/int8ut": "no kernel of this width on this runtime"
                        for bits in (2, 3, 6)
                    }
                    for layer in self.space.layers
                },
                "validated": False,
            },
        }

    def costs_json(self):
        tables = {
            name: [[None if np.isnan(x) else float(x) for x in row] for row in table]
            for name, table in self._tables.items()
        }
        return {"tables": tables, "provenance": self.provenance()}


def make_lines(space, judge, recipe):
    lines = _baselines(space, judge)
    for strategy in recipe.strategies:
        for seed in recipe.seeds:
            lines += _trial(space, judge, recipe, strategy, seed)
    return lines


def _baselines(space, judge):
    width = len(WEIGHT_BITS)
    tags = [("fp32", width)] + [(f"w{b}a8", i) for i, b in reversed(list(enumerate(WEIGHT_BITS)))]
    lines = []
    for seq, (tag, code) in enumerate(tags):
        codes = (code,) * len(space.groups)
        lines.append(
            JournalLine(
                judge.result(codes),
                codes,
                "baseline",
                0,
                "a",
                seq,
                seq * 0.1,
                Counters(seq + 1),
                tag,
                unix_s=BEGAN + seq * 0.1,
            )
        )
    return lines


def _trial(space, judge, recipe, strategy, seed):
    rng = np.random.default_rng([seed, *strategy.encode()])
    score_s = 3.0 if strategy in ("hawq", "greedy") else 0.0
    lines, seen, seq = [], set(), 0
    while seq < recipe.per_trial:
        codes = _propose(judge, recipe, strategy, rng, seq)
        if codes in seen:
            codes = tuple(int(c) for c in space.sample(rng, 1)[0])
        seen.add(codes)
        result = judge.result(codes)
        if strategy == recipe.strategies[0] and seed == 0 and seq < recipe.failed:
            result = Result.failure(
                result.quality_key,
                result.policy_id,
                "loss is not a number\nsearch/evaluate.py:96 evaluate_each",
            )
        counters = Counters(seq + 1, 0, 12.0 if score_s else 0.0)
        lines.append(
            JournalLine(
                result,
                codes,
                strategy,
                seed,
                "a",
                seq,
                score_s + (seq + 1) * 0.06,
                counters,
                unix_s=BEGAN + seed * 2.0 + score_s + (seq + 1) * 0.06,
            )
        )
        seq += 1
    return lines


def _propose(judge, recipe, strategy, rng, seq):
    groups = len(judge.space.groups)
    if strategy == "random":
        return tuple(int(c) for c in rng.integers(0, len(WEIGHT_BITS), groups))
    noise = {"nsga2": 1.6, "greedy": 0.5}.get(strategy, 0.15) * (1 - 0.7 * seq / recipe.per_trial)
    price = 10.0 ** rng.uniform(-7.5, -3.5)
    width = len(WEIGHT_BITS)
    harm = judge.weight[:, None] * 4.0 ** (1.0 - judge.bits[None, :width])
    score = np.log(harm + price * judge.table("size_bytes")[:, :width])
    return tuple(int(c) for c in (score + rng.normal(0, noise, score.shape)).argmin(axis=1))


def _by_trial(lines):
    trials = {}
    for line in lines:
        trials.setdefault((line.strategy, line.seed), []).append(line)
    return trials


def _write_sensitivity(path, space, judge):
    rows = []
    for kind, scale in (("hutchinson", 1.0), ("sqnr", 0.3)):
        for g, group in enumerate(space.groups):
            for c, choice in enumerate(group.all_choices):
                floating = choice == FLOAT_CHOICE
                value = 0.0 if floating else judge.weight[g] * scale * 4.0 ** (1 - judge.bits[c])
                rows.append(
                    {
                        "kind": kind,
                        "layer": group.name,
                        "group": g,
                        "choice": choice.text,
                        "value": value,
                        "standard_error": 0.1 * value,
                    }
                )
    files.write_table(path / "sensitivity.parquet", pd.DataFrame(rows))
