"""Ray Tune and the local runner give the same candidates for the same seeds."""

import pytest

from search.api import search
from tests.e2e.conftest import *  # noqa: F403 - the tiny study


@pytest.mark.slow
def test_ray_and_local_agree_candidate_by_candidate(tiny_model, splits, tmp_path):
    from search.runner.cluster import shutdown

    tables = {}
    try:
        for kind in ("local", "ray"):
            found = search(
                tiny_model,
                **splits,
                strategies=["random", "nsga2"],
                seeds=[0, 1],
                evaluations=6,
                run_dir=tmp_path / kind,
                overrides=[f"runner={kind}"],
            )
            tables[kind] = found.table
    finally:
        shutdown()
    columns = ["strategy", "seed", "seq", "policy_id", "quality_key", "size_bytes", "latency_ms"]
    local, ray = (tables[kind][columns].reset_index(drop=True) for kind in ("local", "ray"))
    assert local.equals(ray)
    for column in ("ce", "kl", "accuracy"):
        assert (tables["local"][column] - tables["ray"][column]).abs().max() < 1e-5
