"""Writes a run directory as a finished study leaves it, from arithmetic instead of a model.

Losses add up per layer as ``sensitivity x 4^-bits`` with a small interaction of neighbours, so
that fronts, knees and sensitivities look like real ones and have a known shape.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from hw_profiles import footprint
from search import files, fronts
from search.records import Counters, JournalLine, Result, decode_codes
from search.stats import wilson
from search.table import candidate_table
from spaces.choices import FLOAT_CHOICE, parse_choice
from spaces.layers import LayerSpec, SkippedOp
from spaces.space import Cut, Group, SearchSpace

WEIGHT_BITS = (2, 3, 4, 6, 8)
CLASSES = 10
FLOAT_CE = 0.182
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
    (path / "policies").mkdir()
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
        _write_policies(path, space, front)
        if recipe.measured:
            _write_latency_check(path, front, recipe)
            _write_export(path, front)
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


def make_front(space, judge, table, recipe):
    tags = fronts.by_tag(table)
    ids = table["policy_id"].tolist()
    provenance = judge.provenance()
    front = {
        "state": "final",
        "quality": recipe.quality,
        "costs": {metric: provenance[metric] for metric in recipe.costs},
        "reference": {},
        "fronts": {},
        "hypervolume": {},
        "picks": [],
        "baselines": [ids[row] for row in tags.values()],
        "float": ids[tags["fp32"]],
        "uniform_int8": ids[tags["w8a8"]],
    }
    shown = set(tags.values())
    for metric in recipe.costs:
        reference = fronts.reference_for(space, judge, metric, recipe.quality, FLOAT_CE, CLASSES)
        rows = fronts.front_rows(table, recipe.quality, metric)
        front["reference"][metric] = {
            "point": reference.point,
            "ideal": reference.ideal,
            "why": reference.why,
        }
        front["fronts"][metric] = [ids[row] for row in rows]
        front["hypervolume"][metric] = fronts.hypervolumes(
            table, recipe.quality, metric, reference
        )
        chosen = fronts.picks(
            table,
            rows,
            recipe.quality,
            metric,
            float_accuracy=float(table["accuracy"].iloc[tags["fp32"]]),
            tolerance=0.01,
            worst=reference.point[0],
        )
        front["picks"] += [
            {"role": pick.role, "cost": metric, "policy_id": ids[pick.row]} for pick in chosen
        ]
        shown |= set(rows)
    front["policies"] = {ids[row]: _entry(judge, table.iloc[row]) for row in sorted(shown)}
    return front


ENTRY = (
    *("tag", "codes", "ce", "kl", "accuracy", "standard_error", "n", "size_bytes", "bops"),
    *("latency_ms", "mean_weight_bits", "mean_activation_bits", "strategy", "seed"),
)


def _entry(judge, row):
    item = {key: getattr(row[key], "item", lambda value=row[key]: value)() for key in ENTRY}
    item["label"] = f"w{row['mean_weight_bits']:.1f}a{row['mean_activation_bits']:.1f}"
    test = judge.result(decode_codes(row["codes"]), "test")
    low, high = wilson(test.accuracy * test.n, test.n)
    item["test"] = {
        "ce": test.ce,
        "kl": test.kl,
        "accuracy": test.accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "standard_error": test.standard_error,
        "n": test.n,
    }
    return item


def _write_policies(path, space, front):
    for policy_id, item in front["policies"].items():
        policy = space.policy(decode_codes(item["codes"]))
        files.write_json(
            path / "policies" / f"{policy_id}.json",
            {"policy_id": policy_id, "choices": dict(policy.choices)},
        )


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


def _write_latency_check(path, front, recipe):
    rng = np.random.default_rng(3)
    chosen = list(front["policies"].items())[: recipe.measured]
    rows = []
    for policy_id, item in chosen:
        predicted = item["latency_ms"]
        measured = 0.04 + 1.03 * predicted * rng.normal(1, 0.03)
        rows.append(
            {
                "policy_id": policy_id,
                "tag": item["tag"],
                "predicted_ms": predicted,
                "drawn": "uniform" if item["tag"] else "random",
                "measured_ms": measured * 0.98,
                "measured_again_ms": measured * 1.02,
                "low_ms": measured * 0.98,
                "high_ms": measured * 1.02,
                "node_sum_ms": measured * 0.95,
                "wall_p50_ms": measured * 1.01,
                "wall_p99_ms": measured * 1.3,
                "sum_ms": predicted * 0.9,
                "graph_sum_ms": measured * 0.8,
                "bops": item["bops"],
                "size_bytes": item["size_bytes"],
            }
        )
    files.write_table(path / "latency_check.parquet", pd.DataFrame(rows))


def _write_export(path, front):
    """The knee as an exported file, timed beside the baselines."""
    pick = next(p["policy_id"] for p in front["picks"] if p["role"] == "knee")
    entry = front["policies"][pick]
    test = entry.get("test", entry)

    def timed(ms):
        return {"measured_ms": ms, "low_ms": 0.99 * ms, "high_ms": 1.01 * ms}

    folder = path / "exports" / f"{pick}-onnx"
    folder.mkdir(parents=True)
    files.write_json(
        folder / "export.json",
        {
            "policy_id": pick,
            "format": "onnx",
            "runtime": "onnxruntime 1.0",
            "n": 600,
            "deployed": {**test, "accuracy_low": 0.9, "accuracy_high": 0.99},
            "simulated": test,
            "agreement": 0.9983,
            "files": {"model.onnx": 120_000},
            "predicted_bytes": 110_000,
            "predicted": {"latency_ms": 0.2},
            "latency": {
                **timed(0.21),
                "noise": 0.01,
                "references": {"fp32": timed(0.4), "w8a8": timed(0.21)},
            },
        },
    )


def manifest(recipe):
    return {
        "study": recipe.study,
        "command": f"bitfront-search task=digits_resnet study={recipe.study}",
        "started": "2026-01-01T00:00:00Z",
        "ended": "2026-01-01T00:03:00Z",
        "exit_code": 0,
        "git_commit": "abc1234",
        "python": "3.11.7",
        "os": "Linux-6.1",
        "packages": {"torch": "2.13.0", "plotly": "7.1.0"},
        "config_hash": config_hash(recipe),
        "identity_hash": "1d1d",
        "task": {
            "name": "digits_resnet",
            "title": "Noisy digits, residual network",
            "metric": "accuracy",
            "classes": CLASSES,
            "n_calibration": 200,
            "n_search": recipe.n,
            "n_test": recipe.n,
            "data_hash": recipe.data_hash,
            "weights_hash": "beef",
        },
        "method": {"name": "rtn_mse"},
        "device": {
            "name": "Example CPU @ 2.0 GHz",
            "cpu_flags": ["avx512_vnni"],
            "threads": 1,
            "runtime": "onnxruntime 1.31.1",
        },
        "profile_hash": "abcd",
        "strategies": list(recipe.strategies),
        "seeds": list(recipe.seeds),
        "objectives": [recipe.quality, *recipe.costs],
        "search_queries": 6 + len(recipe.strategies) * len(recipe.seeds) * recipe.per_trial,
        "score_seconds": {"hutchinson": 3.2},
        "table_seconds": 21.0,
        **recipe.extra_manifest,
    }


def config_hash(recipe):
    text = json.dumps(json.loads(config(recipe)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def config(recipe):
    data = {
        "study": recipe.study,
        "objective": {"quality": recipe.quality, "costs": list(recipe.costs), "tolerance": 0.01},
        "budget": {"evaluations": recipe.per_trial},
        "seeds": list(recipe.seeds),
    }
    return json.dumps(data, indent=1) + "\n"
