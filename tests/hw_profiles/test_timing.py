"""The timing protocol on a clock that only moves when a fake kernel runs."""

import gc

import numpy as np
import pytest

from hw_profiles.timing import Protocol, Timing, time_interleaved

PROTOCOL = Protocol(rounds=10, block_ms=4.0)


class FakeClock:
    def __init__(self):
        self.cpu_ns = self.wall_ns = 0
        self.calls = []

    def kernel(self, name, cpu_ms, wall_ms=None):
        def call():
            self.calls.append(name)
            self.cpu_ns += round(cpu_ms * 1e6)
            self.wall_ns += round((wall_ms or cpu_ms) * 1e6)

        return call


def timed(clock, calls):
    rng = np.random.default_rng(0)
    return time_interleaved(calls, PROTOCOL, rng, lambda: clock.cpu_ns, lambda: clock.wall_ns)


def test_times_are_per_call_and_ratios_show_preemption():
    clock = FakeClock()
    found = timed(
        clock, {"quick": clock.kernel("q", 0.5), "disturbed": clock.kernel("d", 2.0, wall_ms=5.0)}
    )
    np.testing.assert_allclose(found["quick"].call_ms, 0.5)
    np.testing.assert_allclose(found["disturbed"].call_ms, 2.0)
    np.testing.assert_allclose(found["disturbed"].wall_ratio, 2.5)
    assert found["quick"].spread == 0.0


def test_blocks_are_as_long_as_asked_and_every_round_runs_all_once():
    clock = FakeClock()
    timed(clock, {"a": clock.kernel("a", 0.5), "b": clock.kernel("b", 100.0)})
    warm = 6  # three calls to warm up, three to size the block
    assert clock.calls.count("a") == warm + 10 * 8
    assert clock.calls.count("b") == warm + 10
    rounds = "".join(clock.calls[2 * warm :]).replace("a" * 8, "a")
    assert all(sorted(rounds[i : i + 2]) == ["a", "b"] for i in range(0, 20, 2))


def test_the_order_changes_from_round_to_round():
    clock = FakeClock()
    timed(clock, {name: clock.kernel(name, 10.0) for name in "abcd"})
    order = clock.calls[4 * 6 :]
    assert len({tuple(order[i : i + 4]) for i in range(0, 40, 4)}) > 1


def test_garbage_collection_is_off_while_timing_and_restored():
    seen = []
    clock = FakeClock()
    kernel = clock.kernel("a", 1.0)
    timed(clock, {"a": lambda: (seen.append(gc.isenabled()), kernel())})
    assert not any(seen)
    assert gc.isenabled()


def test_garbage_collection_is_restored_after_a_failure():
    clock = FakeClock()

    def broken():
        raise RuntimeError("kernel")

    with pytest.raises(RuntimeError):
        timed(clock, {"a": broken})
    assert gc.isenabled()


def test_statistics_of_rounds():
    timing = Timing(np.arange(1.0, 12.0), np.ones(11))
    assert timing.statistic_ms(memory_bound=False) == pytest.approx(3.0)
    assert timing.statistic_ms(memory_bound=True) == pytest.approx(6.0)
    assert timing.spread == pytest.approx(5.0 / 6.0)
