import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import UsageError
from quant.formats import FLOAT32, Format, Granularity, Scheme, Timing, parse_format

SCHEMES = st.sampled_from(list(Scheme))
BITS = st.integers(2, 8)


@st.composite
def formats(draw):
    granularity = draw(st.sampled_from(list(Granularity)))
    sized = granularity in (Granularity.GROUP, Granularity.ROWS)
    size = draw(st.integers(1, 512)) if sized else 0
    timing = draw(st.sampled_from(list(Timing)))
    timing = Timing.DYNAMIC if granularity is Granularity.TOKEN else timing
    return Format("int", draw(BITS), draw(SCHEMES), granularity, size, timing)


@given(formats())
def test_text_form_round_trips(fmt):
    assert parse_format(str(fmt)) == fmt


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_float_formats_round_trip(name):
    fmt = parse_format(name)
    assert str(fmt) == name
    assert fmt.is_float
    assert fmt.bits == (32 if name == "float32" else 16)


def test_omitted_parts_mean_symmetric_tensor_static():
    assert parse_format("int8") == parse_format("int8st@static")
    assert parse_format("int8") == Format(
        "int", 8, Scheme.SYMMETRIC, Granularity.TENSOR, 0, Timing.STATIC
    )
    assert parse_format("float32") is FLOAT32 or parse_format("float32") == FLOAT32


def test_every_part_is_read():
    fmt = parse_format("int4srg128@dynamic")
    assert fmt == Format("int", 4, Scheme.RESTRICTED, Granularity.GROUP, 128, Timing.DYNAMIC)


@pytest.mark.parametrize(
    ("text", "qmin", "qmax"),
    [
        ("int8s", -128, 127),
        ("int8sr", -127, 127),
        ("int8u", 0, 255),
        ("int2s", -2, 1),
        ("int2sr", -1, 1),
        ("int2u", 0, 3),
        ("int3sr", -3, 3),
    ],
)
def test_integer_ranges_closed_form(text, qmin, qmax):
    fmt = parse_format(text)
    assert (fmt.qmin, fmt.qmax) == (qmin, qmax)


@given(BITS, SCHEMES)
def test_number_of_codes(bits, scheme):
    fmt = Format("int", bits, scheme)
    missing = 1 if scheme is Scheme.RESTRICTED else 0
    assert fmt.qmax - fmt.qmin + 1 == 2**bits - missing
    assert fmt.qmin <= 0 <= fmt.qmax


def test_with_bits_keeps_the_rest_and_checks_the_width():
    assert str(parse_format("int8srg32").with_bits(3)) == "int3srg32"
    with pytest.raises(UsageError, match="9 bits is out of range"):
        parse_format("int8").with_bits(9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int1", "1 bits is out of range"),
        ("int9", "9 bits is out of range"),
        ("int4sg0", "group size must be at least 1"),
        ("int8@weekly", "unknown timing '@weekly'"),
        ("int8 u", "not a number format"),
        ("int8g", "not a number format"),
        ("int-8", "not a number format"),
        ("", "not a number format"),
        ("INT8", "not a number format"),
    ],
)
def test_bad_texts_are_refused_with_the_reason(text, message):
    with pytest.raises(UsageError) as caught:
        parse_format(text)
    assert message in str(caught.value)
    assert "int2..int8" in caught.value.expected


def test_a_typo_gets_the_nearest_format():
    with pytest.raises(UsageError, match="did you mean 'bfloat16'"):
        parse_format("bfloat61")


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused_never_anything_else(text):
    try:
        fmt = parse_format(text)
    except UsageError:
        return
    assert parse_format(str(fmt)) == fmt
