"""The comparison of scores prints cost and ranks for every configured score."""

import math

import pytest

from search.api import compose_plain
from search.benches import sensitivity

SMALL = ("task.width=2", "task.epochs=1", "space=int8_float", "hw=mpic", "score=[sqnr,lss]")


def test_every_score_gets_its_figures(monkeypatch):
    monkeypatch.setattr(sensitivity, "POLICIES", 6)
    monkeypatch.setattr(sensitivity, "ROUNDS", 1)
    found = {(item.case, item.metric): item for item in sensitivity.run(compose_plain(SMALL))}
    assert {case for case, _ in found} == {
        "digits_resnet", "digits_resnet/sqnr", "digits_resnet/lss",
    }  # fmt: skip
    work = found["digits_resnet", "prefix_work_share"]
    assert 0.4 < work.value < 0.6
    assert work.met
    assert ("digits_resnet/lss", "rank_policies_surrogate") in found
    assert ("digits_resnet/sqnr", "rank_policies_surrogate") not in found
    ranks = [item.value for (_, metric), item in found.items() if metric.startswith("rank")]
    assert all(math.isnan(value) or -1 <= value <= 1 for value in ranks)
    assert found["digits_resnet/sqnr", "forward_equivalents"].value == pytest.approx(0)
