"""The export bench reports the worst policy, and builds runs without a search."""

import pytest

from search.benches.export import SLACK, figures, opened_run


def record(agreement, device, difference, size, seconds):
    return {
        "agreement": agreement,
        "accuracy_difference_samples": difference,
        "against_device_simulation": {
            "agreement": device,
            "accuracy_difference_samples": -difference,
        },
        "files": {"model.onnx": size},
        "predicted_bytes": 100_000,
        "seconds": seconds,
        "latency": {
            "references": {"fp32": {"measured_ms": 3.0}, "w8a8": {"measured_ms": 1.5}},
        },
    }


def test_bars_are_held_against_the_worst_policy():
    records = [record(1.0, 1.0, 0, 100_000, 1.0), record(0.99, 0.999, -2, 180_000, 31.0)]
    found = {item.metric: item for item in figures("net space", records)}
    assert found["least_agreement_with_searched_simulation"].value == 0.99
    assert found["least_agreement_with_searched_simulation"].met is False
    assert found["least_agreement_with_device_simulation"].met is True
    assert found["largest_accuracy_difference_to_searched_simulation"].value == 2
    beyond = found["bytes_beyond_2_percent_and_64_KiB"]
    assert beyond.value == pytest.approx(180_000 - 102_000 - SLACK)
    assert beyond.met is False
    assert found["export_and_judge"].met is False
    assert found["uniform_int8_over_fp32_speed"].value == 2.0
    assert found["agreement_of_policies"].n == 2


def test_a_run_of_drawn_policies_needs_no_search(tmp_path, monkeypatch):
    from search.benches import export

    plain = export.compose_plain
    small = ["task.width=2", "task.epochs=1"]
    monkeypatch.setattr(export, "compose_plain", lambda words: plain([*words, *small]))
    run = opened_run("digits_resnet", "w2348", tmp_path)
    assert {"fp32", "w8a8"} == set(filter(None, run.tags))
    assert len(run.front["policies"]) == 14
    for name in run.front["policies"]:
        assert run.policy(name).policy_id == name
