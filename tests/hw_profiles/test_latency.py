"""Latency models: the line, the draw, the cache, and one network measured for real."""

import numpy as np
import pytest

from hw_profiles.backends.onnxruntime_cpu import OnnxRuntimeCpu
from hw_profiles.hw import HwConfig
from hw_profiles.latency import (
    LatencyModel,
    Target,
    cached_latency,
    edges_of,
    load_latency,
    load_or_fit,
)
from hw_profiles.store import device_mark, load_or_measure
from hw_profiles.table_cost import build_cost_model
from hw_profiles.timing import Protocol
from hw_profiles.validate import RANDOM, UNIFORM, draw_checks, fit_line
from tests.hw_profiles.layers import conv, linear, space_of
from tests.hw_profiles.networks import block, block_space

BACKEND = OnnxRuntimeCpu(Protocol(rounds=10, block_ms=0.05))
HW = HwConfig(rounds=10)


def test_a_line_is_found_again():
    predicted = np.array([1.0, 2.0, 5.0])
    assert fit_line(predicted, 0.5 + 3 * predicted) == pytest.approx((0.5, 3.0))


def test_equal_predictions_give_a_line_through_the_origin():
    assert fit_line(np.array([2.0, 2.0]), np.array([3.0, 3.0])) == pytest.approx((0.0, 1.5))


def test_a_falling_line_is_refused():
    intercept, slope = fit_line(np.array([1.0, 2.0]), np.array([2.0, 1.0]))
    assert intercept == 0.0
    assert slope > 0


def test_checks_are_uniform_policies_and_distinct_mixed_ones():
    space = space_of([conv(f"l{i}", i, 4, 4) for i in range(6)])
    found = draw_checks(space, BACKEND, 12, np.random.default_rng(0))
    assert [item.drawn for item in found].count(UNIFORM) == 2
    assert [item.drawn for item in found].count(RANDOM) == 12
    assert {item.tag for item in found if item.drawn == UNIFORM} == {"fp32", "w8a8"}
    assert len({item.codes.tobytes() for item in found}) == 14
    again = draw_checks(space, BACKEND, 12, np.random.default_rng(0))
    assert all((a.codes == b.codes).all() for a, b in zip(found, again, strict=True))


def test_policies_that_run_the_same_are_drawn_once():
    space = space_of([conv("a"), linear("fc", 1)], ("int4sc/int8ut", "int8sc/int8ut", "float32"))
    assert len(draw_checks(space, BACKEND, 50, np.random.default_rng(0))) == 4


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A small network measured once for real."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BITFRONT_CACHE", str(tmp_path_factory.mktemp("cache")))
        model, example = block()
        space = block_space(model, example)
        profile, _ = load_or_measure(space, HW, str)
        target = Target(BACKEND.network(model, space.layers, example), space, BACKEND, HW)
        lines = []
        found, grown, seconds = load_or_fit(target, profile, lines.append)
        again = load_or_fit(target, grown, lines.append)
        path = cached_latency(target, device_mark(profile.device))
        yield space, target, found, profile, grown, seconds, again, lines, load_latency(path)


def test_a_measured_model_holds_its_check(measured):
    _, _, found, profile, grown, seconds, _, lines, _ = measured
    assert seconds > 0
    assert len(grown.nodes) > len(profile.nodes)
    drawn = [check.drawn for check in found.checks]
    assert drawn.count(UNIFORM) >= 2
    assert drawn.count(RANDOM) == 24
    for check in found.checks:
        assert check.measured_ms > 0
        assert check.measured_again_ms > 0
        assert 0 < check.wall_p50_ms <= check.wall_p99_ms
        assert check.graph_sum_ms > 0
    assert any("end to end" in line for line in lines)


def test_every_op_of_a_checked_policy_is_timed_alone_and_inside(measured):
    found = measured[2]
    for check in found.checks:
        ops = [item for item in found.ops if item.policy_id == check.policy_id]
        assert len({item.op for item in ops}) == len(ops)
        assert sum(item.predicted_ms for item in ops) == pytest.approx(check.graph_sum_ms)
        assert all(item.nodes > 0 and item.measured_ms >= 0 for item in ops)
        assert {item.drawn for item in ops} == {check.drawn}
    integer = next(check for check in found.checks if check.tag == "w8a8")
    ops = {item.op for item in found.ops if item.policy_id == integer.policy_id}
    assert "QLinearConv" in ops


def test_the_cost_model_predicts_what_the_check_holds(measured):
    space, _, found, _, grown, *_ = measured
    model = build_cost_model(space, grown, BACKEND, edges=edges_of(space, BACKEND, found))
    named = {check.policy_id: check for check in found.checks}
    rng = np.random.default_rng(HW.seed)
    codes = [item.codes for item in draw_checks(space, BACKEND, 8, rng)]
    hits = 0
    for row in codes:
        check = named.get(space.policy(row).policy_id)
        if check is not None:
            hits += 1
            assert model.costs(row)["latency_ms"][0] == pytest.approx(check.predicted_ms)
    assert hits >= 2, "the uniform policies are always checked"


def test_the_second_time_comes_from_the_cache(measured):
    *_, found, _, grown, _, again, _, stored = measured
    model, profile, seconds = again
    assert (seconds, model, profile) == (0.0, found, grown)
    assert stored == found
    assert isinstance(LatencyModel.from_json(found.to_json()), LatencyModel)


def test_a_damaged_cache_file_is_measured_again(tmp_path):
    path = tmp_path / "latency.json"
    assert load_latency(path) is None
    for text in ("", "[]", "{}", '{"schema_version": 99}'):
        path.write_text(text)
        assert load_latency(path) is None
