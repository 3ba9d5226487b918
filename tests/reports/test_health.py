import dataclasses

import pandas as pd
import pytest

from reports.health import Level, check_health
from reports.origins import STORAGE_ONLY, front_share


def levels(data):
    return {finding.title: finding.level for finding in check_health(data)}


def level_of(data, words):
    found = [level for title, level in levels(data).items() if words in title]
    assert len(found) == 1, (words, levels(data))
    return found[0]


def with_front(data, **changes):
    return dataclasses.replace(data, front=dataclasses.replace(data.front, **changes))


def test_a_whole_run_has_no_warning(data):
    assert max(levels(data).values()) == Level.INFO


def test_serious_findings_come_first(data):
    found = check_health(dataclasses.replace(data, state="failed", message="disk full"))
    assert found[0].level == Level.FAIL
    assert found[0].detail == "disk full"
    assert [item.level for item in found] == sorted((item.level for item in found), reverse=True)


@pytest.mark.parametrize(
    ("failed", "level"), [(0, Level.PASS), (2, Level.INFO), (60, Level.WARN), (400, Level.FAIL)]
)
def test_failed_candidates(data, failed, level):
    status = ["failed"] * failed + ["ok"] * (len(data.table) - failed)
    changed = dataclasses.replace(data, table=data.table.assign(status=status))
    words = "candidates failed" if failed else "Every candidate was evaluated"
    assert level_of(changed, words) == level


def test_missing_baselines(data):
    assert level_of(with_front(data, float_id=None), "float model was not") == Level.FAIL
    assert level_of(with_front(data, int8_id=None), "int8 was not") == Level.WARN


def test_unread_test_split(data):
    policies = {
        key: {name: value for name, value in item.items() if name != "test"}
        for key, item in data.front.policies.items()
    }
    assert (
        level_of(with_front(data, policies=policies), "not read on the test split") == Level.WARN
    )


def test_reference_point_nothing_dominates(data):
    reference = {
        cost: dataclasses.replace(item, point=(0.0, 0.0))
        for cost, item in data.front.reference.items()
    }
    titles = levels(with_front(data, reference=reference))
    assert sum("No candidate dominates" in title for title in titles) == 2


def test_tables_that_are_not_measured(data):
    costs = {**data.front.costs}
    costs["latency_ms"] = dataclasses.replace(costs["latency_ms"], kind="simulated")
    assert level_of(with_front(data, costs=costs), "simulated, not measured") == Level.WARN


def test_wrong_predictions(data):
    twice = data.latency_check["predicted_ms"] * 2
    check = data.latency_check.assign(measured_ms=twice, measured_again_ms=twice)
    changed = dataclasses.replace(data, latency_check=check)
    assert level_of(changed, "off by 50 %") == Level.WARN


def test_trial_errors(data):
    manifest = {**data.manifest, "trial_errors": {"hawq-0": "ValueError: no"}}
    changed = dataclasses.replace(data, manifest=manifest)
    assert level_of(changed, "Trial hawq-0 stopped") == Level.WARN


def test_seeds(data):
    many = dataclasses.replace(data, manifest={**data.manifest, "seeds": list(range(10))})
    assert level_of(data, "3 seeds") == Level.INFO
    assert level_of(many, "10 seeds") == Level.PASS


def test_shares_of_origins_count_pairs_of_the_front(data):
    hollow = data.front.costs["latency_ms"].data["storage_only"]
    total = bad = 0
    for text in data.front_table("latency_ms")["codes"]:
        policy = data.space.policy(data.codes(text))
        for name in policy:
            total += 1
            bad += policy.choices[name] in hollow[name]
    assert front_share(data, "latency_ms", STORAGE_ONLY) == pytest.approx(bad / total)


def test_one_policy_under_two_hashes_is_a_failure(data):
    table = data.table.copy()
    twice = table.index[table["policy_id"] == data.front.int8_id][:1]
    table = pd.concat([table, table.loc[twice].assign(quality_key="other")], ignore_index=True)
    changed = dataclasses.replace(data, table=table)
    assert level_of(changed, "under different hashes") == Level.FAIL
    assert level_of(data, "one table throughout") == Level.PASS


def test_a_foreign_latency_table_is_a_failure(data):
    changed = dataclasses.replace(
        data, profile={"hash": "1234"}, manifest={**data.manifest, "profile_hash": "abcd"}
    )
    assert level_of(changed, "not the one of this run") == Level.FAIL
