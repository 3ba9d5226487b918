import dataclasses

import pytest

from reports.health import MANY_INTERPOLATED, Level, check_health
from reports.origins import GENUINE, INTERPOLATED, STORAGE_ONLY, Origin, front_share, origins


def with_info(data, kind="mixed", **stored):
    info = data.front.costs["latency_ms"]
    info = dataclasses.replace(info, kind=kind, data={**info.data, **stored})
    costs = {**data.front.costs, "latency_ms": info}
    return dataclasses.replace(data, front=dataclasses.replace(data.front, costs=costs))


def test_measured_kernels_are_genuine_and_the_rest_says_why(data):
    table = origins(data, "latency_ms")
    choices = [choice.text for choice in data.space.groups[0].all_choices]
    marks = dict(zip(choices, table[0], strict=True))
    assert marks["int8src/int8ut"] == Origin(GENUINE)
    assert marks["int2src/int8ut"].mark == STORAGE_ONLY
    assert "no kernel" in marks["int2src/int8ut"].reason


def test_times_the_device_did_not_give_carry_their_provenance(data):
    layer = data.space.layers[3].name
    changed = with_info(
        data, storage_only={}, not_measured={layer: {"int4src/int8ut": "interpolated"}}
    )
    marks = [
        (row, origin.mark)
        for row, origins_ in enumerate(origins(changed, "latency_ms"))
        for origin in origins_
        if origin.mark != GENUINE
    ]
    assert marks == [(3, INTERPOLATED)]


def test_a_published_table_is_published_throughout(data):
    changed = with_info(data, kind="published", storage_only={})
    assert {o.mark for row in origins(changed, "latency_ms") for o in row} == {"published"}


@pytest.mark.parametrize("every", [True, False])
def test_a_largely_interpolated_front_is_warned_about(data, every):
    groups = data.space.groups
    texts = [choice.text for choice in groups[0].all_choices]
    guessed = {layer.name: dict.fromkeys(texts, "interpolated") for layer in data.space.layers}
    changed = with_info(data, storage_only={}, not_measured=guessed if every else {})
    share = front_share(changed, "latency_ms", INTERPOLATED)
    assert (share > MANY_INTERPOLATED) == every
    found = [f for f in check_health(changed) if "are interpolated" in f.title]
    assert [f.level for f in found] == [Level.WARN] * every
