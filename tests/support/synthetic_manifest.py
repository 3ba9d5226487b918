"""manifest.json and config.yaml of a synthetic run."""

import hashlib
import json

CLASSES = 10
FLOAT_CE = 0.182


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
