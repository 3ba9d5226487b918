import pytest

from reports import numbers


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (0.43721, 0.021, "0.437"),
        (0.43721, 0.21, "0.44"),
        (12.3456, 3.2, "12.3"),
        (-0.0001, 0.2, "0.00"),
        (-1.5, 0.2, "−1.50"),
        (1234.5, None, "1234"),
        (0.00123456, None, "0.00123"),
        (0.0, None, "0"),
        (float("nan"), None, "–"),
        (1.5e-9, None, "1.50e-09"),
    ],
)
def test_numbers_are_rounded_by_their_interval(value, half, text):
    assert numbers.number(value, half) == text


def test_intervals_show_two_digits_of_the_half_width():
    assert numbers.interval(0.43721, 0.0213) == "0.437 ± 0.021"
    assert numbers.interval(0.43721, 0.0) == "0.437"
    assert numbers.percent(0.94321, 0.0187) == "94.3 ± 1.9 %"


def test_differences_carry_a_sign_and_their_unit():
    assert numbers.points(-0.0041) == "−0.4 pt"
    assert numbers.points(0.012) == "+1.2 pt"
    assert numbers.points(0.0) == "±0.0 pt"
    assert numbers.change(57.0, 100.0) == "−43 %"
    assert numbers.change(101.6, 100.0) == "+1.6 %"
    assert numbers.change(1.0, 0.0) == "–"


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("size_bytes", 91_300, "91.3 kB"),
        ("size_bytes", 730, "730 B"),
        ("size_bytes", 11_200_000, "11.2 MB"),
        ("latency_ms", 0.41234, "0.412 ms"),
        ("latency_ms@board", 0.41234, "0.412 ms"),
        ("bops", 1.1e9, "1.10 GBOPs"),
        ("energy_mj", 2.0, "2.00 mJ"),
        ("latency_ms", None, "–"),
        ("latency_ms", float("nan"), "–"),
    ],
)
def test_costs_carry_their_unit(metric, value, text):
    assert numbers.cost(metric, value) == text


def test_seconds():
    assert numbers.seconds(3.21) == "3.21 s"
    assert numbers.seconds(65) == "1 min 05 s"
    assert numbers.seconds(7400) == "2 h 03 min"


def test_long_names_keep_both_ends():
    assert numbers.short("stage1.0.conv1") == "stage1.0.conv1"
    long = numbers.short("encoder.layer.11.attention.self.query", 20)
    assert len(long) == 20
    assert long.startswith("encoder.")
    assert long.endswith(".query")


def test_text_in_plots_cannot_be_markup():
    assert numbers.plot_text("<a href=x>") == "&lt;a href=x&gt;"


def test_compact_numbers_keep_six_digits():
    assert numbers.compact(0.123456789) == 0.123457
    assert numbers.compact(730000.0) == 730000
    assert isinstance(numbers.compact(730000.0), int)
    assert numbers.compact(float("nan")) is None
    assert numbers.compact(None) is None
