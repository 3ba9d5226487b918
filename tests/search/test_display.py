import pytest

from search.display import show, summary


def entry(tag="", size=1000.0, **more):
    test = {
        "ce": 0.25, "kl": 0.0, "accuracy": 0.95, "accuracy_low": 0.93, "accuracy_high": 0.97,
        "standard_error": 0.01, "n": 600,
    }  # fmt: skip
    return {
        "tag": tag, "size_bytes": size, "latency_ms": 0.5, "mean_weight_bits": 4.25,
        "mean_activation_bits": 8.0, "ce": 0.2, "accuracy": 0.9, "standard_error": 0.0,
        "test": test, **more,
    }  # fmt: skip


def pick(role, cost, policy_id):
    return {"role": role, "cost": cost, "policy_id": policy_id}


FRONT = {
    "policies": {"aaa": entry("fp32", 695_400.0), "bbb": entry(size=58_200.0), "ccc": entry()},
    "baselines": ["aaa"],
    "fronts": {"size_bytes": ["bbb", "ccc"], "latency_ms": ["ccc"]},
    "picks": [
        pick("accurate", "size_bytes", "bbb"),
        pick("knee", "size_bytes", "ccc"),
        pick("accurate", "latency_ms", "ccc"),
        pick("knee", "latency_ms", "ccc"),
    ],
}


def test_baselines_come_first_and_values_are_those_of_the_test_split():
    lines = summary(FRONT, "ce").splitlines()
    assert lines[1].split() == [
        "fp32", "95.0", "±2.0", "0.250", "±0.020", "695.4", "kB", "0.500", "ms", "4.2", "/", "8.0",
        "aaa",
    ]  # fmt: skip
    assert lines[2].startswith("* most accurate (size)")
    assert lines[2].endswith("bbb")


def test_a_front_of_one_policy_is_one_row():
    assert summary(FRONT, "ce").count("(latency)") == 1
    assert "only point of the front (latency)" in summary(FRONT, "ce")


def test_fastest_is_the_word_for_latency():
    picks = [pick("knee", "latency_ms", "bbb"), pick("smallest", "latency_ms", "ccc")]
    assert "fastest within tolerance (latency)" in summary({**FRONT, "picks": picks}, "ce")


@pytest.mark.parametrize("columns", ["20", "200"])
def test_a_pipe_gets_the_same_text_whatever_the_width(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    show(FRONT, "ce")
    assert capsys.readouterr().out.rstrip() == summary(FRONT, "ce")


def test_a_byte_task_quotes_bits_per_byte():
    lines = summary({**FRONT, "metric": "bits_per_byte"}, "ce").splitlines()
    assert "bits/byte" in lines[0]
    assert "0.361 ±0.028" in lines[1], "0.25 nats / ln 2, with the error scaled alike"
    assert "bits/byte" not in summary({**FRONT, "metric": "bits_per_byte"}, "kl")
