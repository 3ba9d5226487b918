"""What every calibrator promises, on every format."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant.calibration import CALIBRATORS, Distribution, StreamingHistogram, calibrator
from quant.errors import DataError, UsageError
from quant.formats import parse_format

NAMES = st.sampled_from(sorted(CALIBRATORS))
FORMATS = st.sampled_from(
    [parse_format(f"int{b}{s}") for b in (2, 4, 8) for s in ("s", "sr", "u")]
)
SLICES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 12)),
    elements=st.floats(-100, 100, width=16),
)
FAST = settings(max_examples=40, deadline=None)


def ranges(slices, name, fmt):
    low, high = calibrator(name).range(Distribution.of_slices(slices), fmt)
    return torch.stack([low, high])


@FAST
@given(SLICES, NAMES, FORMATS)
def test_range_lies_within_the_data_and_holds_zero(array, name, fmt):
    slices = torch.from_numpy(array)
    low, high = ranges(slices, name, fmt)
    assert low.shape == high.shape == (len(slices),)
    assert bool((low <= 0).all())
    assert bool((high >= 0).all())
    assert bool((low >= slices.amin(1).clamp(max=0)).all())
    assert bool((high <= slices.amax(1).clamp(min=0)).all())


@FAST
@given(SLICES, NAMES, FORMATS)
def test_slices_do_not_see_each_other(array, name, fmt):
    slices = torch.from_numpy(array)
    rows = [ranges(row[None], name, fmt) for row in slices]
    assert torch.equal(ranges(slices, name, fmt), torch.cat(rows, dim=1))


@FAST
@given(SLICES, NAMES, FORMATS)
def test_data_without_negatives_gets_exactly_zero(array, name, fmt):
    assert torch.count_nonzero(ranges(torch.from_numpy(array).relu(), name, fmt)[0]) == 0


@FAST
@given(SLICES, NAMES, FORMATS, st.integers(-6, 6))
def test_scale_equivariant(array, name, fmt, exponent):
    slices = torch.from_numpy(array)
    # Powers of two scale floats exactly; the smallest half floats stay normal numbers.
    scaled = ranges(slices * 2.0**exponent, name, fmt)
    assert torch.equal(scaled, ranges(slices, name, fmt) * 2.0**exponent)


@FAST
@given(SLICES, st.sampled_from(["minmax", "percentile"]), FORMATS)
def test_scale_equivariant_for_any_factor(array, name, fmt):
    slices = torch.from_numpy(array)
    scaled = ranges(slices * 3.7, name, fmt)
    assert torch.allclose(scaled, ranges(slices, name, fmt) * 3.7, rtol=1e-5, atol=1e-6)


@FAST
@given(SLICES, st.sampled_from(["minmax", "percentile", "kl"]), FORMATS, st.randoms())
def test_order_of_elements_does_not_matter(array, name, fmt, random):
    order = list(range(array.shape[1]))
    random.shuffle(order)
    slices = torch.from_numpy(array)
    assert torch.equal(ranges(slices[:, order], name, fmt), ranges(slices, name, fmt))


@FAST
@given(SLICES, NAMES.filter(lambda name: name != "average"), FORMATS, st.integers(1, 11))
def test_order_of_batches_does_not_matter(array, name, fmt, cut):
    batches = [torch.from_numpy(array.ravel()[:cut]), torch.from_numpy(array.ravel()[cut:])]
    results = []
    for order in (batches, batches[::-1], [torch.cat(batches)]):
        histogram = StreamingHistogram()
        for batch in order:
            histogram.update(batch)
        results.append(torch.stack(calibrator(name).range(histogram.distribution(), fmt)))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("name", sorted(CALIBRATORS))
@pytest.mark.parametrize("text", ["int2s", "int4sr", "int8u"])
def test_corners(name, text):
    fmt = parse_format(text)
    assert ranges(torch.zeros(2, 5), name, fmt).tolist() == [[0, 0], [0, 0]]
    assert ranges(torch.empty(2, 0), name, fmt).tolist() == [[0, 0], [0, 0]]
    nothing = StreamingHistogram().distribution()
    assert torch.stack(calibrator(name).range(nothing, fmt)).tolist() == [[0], [0]]
    positive, negative = torch.full((1, 5), 0.5), torch.full((1, 5), -0.5)
    assert float(ranges(positive, name, fmt)[0]) == 0.0
    assert float(ranges(negative, name, fmt)[1]) == 0.0


@pytest.mark.parametrize("name", ["minmax", "percentile"])
def test_a_constant_keeps_its_range(name):
    fmt = parse_format("int4u")
    assert ranges(torch.full((1, 5), 0.5), name, fmt).tolist() == [[0.0], [0.5]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_bad_elements_name_the_tensor(value):
    with pytest.raises(DataError, match="the weight of layer 'fc'"):
        Distribution.of_slices(torch.tensor([[0.0, value]]), name="the weight of layer 'fc'")


def test_unknown_name_lists_the_calibrators():
    with pytest.raises(UsageError, match="unknown calibrator 'entropi'") as caught:
        calibrator("entropi", where="method.weight_calibrator")
    assert caught.value.expected == f"one of: {', '.join(sorted(CALIBRATORS))}"
    assert caught.value.where == "method.weight_calibrator"
    assert all(calibrator(name).name == name for name in CALIBRATORS)
