import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import DataError, UsageError
from quant.formats import FLOAT32
from search.records import ALPHABET
from spaces.choices import FLOAT_CHOICE, Choice, parse_choice
from spaces.policy import Policy
from spaces.space import MAX_CHOICES, SearchSpace
from tests.support.toy import toy_space

SPACE = toy_space(groups=5, choices=3)
any_codes = st.lists(st.integers(0, 3), min_size=5, max_size=5)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("float32/float32", "fp32"),
        ("int8src/int8ut", "w8a8"),
        ("int4sg128+gptq/int8ut", "w4a8 gptq"),
        ("int8src/int8uk@dynamic", "w8a8 token"),
        ("int8src/int8ut@dynamic", "w8a8 dyn"),
        ("int4src/float32", "w4a32"),
    ],
)
def test_choice_texts_round_trip(text, label):
    assert parse_choice(text).text == text
    assert parse_choice(text).label == label


def test_a_missing_activation_means_float():
    assert parse_choice("int4src") == Choice(parse_choice("int4src/float32").weight, FLOAT32)
    assert parse_choice("float32") == FLOAT_CHOICE


@pytest.mark.parametrize("text", ["int4src+/int8ut", "int99/int8ut", "", "w4a8"])
def test_bad_choice_texts_are_refused(text):
    with pytest.raises(UsageError):
        parse_choice(text)


def test_the_policy_id_is_the_hash_of_canonical_json():
    policy = Policy({"b": "float32/float32", "a": "int8src/int8ut"})
    assert policy.canonical == '{"a":"int8src/int8ut","b":"float32/float32"}'
    assert policy.policy_id == "2d0352c96c9e"


@given(st.permutations(list("abcde")))
def test_the_order_of_layers_does_not_change_a_policy(names):
    policy = Policy(dict.fromkeys(names, "int8src/int8ut"))
    assert policy == Policy(dict.fromkeys("abcde", "int8src/int8ut"))
    assert hash(policy) == hash(Policy(dict(policy.choices)))


@given(any_codes)
def test_codes_and_policies_are_inverse(codes):
    policy = SPACE.policy(codes)
    assert SPACE.codes(policy).tolist() == codes
    assert len(policy) == 5


def test_every_code_of_the_widest_group_can_be_written_to_records():
    assert len(ALPHABET) == MAX_CHOICES


def test_sizes_count_searchable_choices_only():
    assert SPACE.sizes.tolist() == [3] * 5
    assert SPACE.cardinality == 243


@given(st.integers(0, 100))
def test_samples_are_searchable(seed):
    draws = SPACE.sample(np.random.default_rng(seed), 20)
    assert draws.shape == (20, 5)
    assert ((draws >= 0) & (draws < 3)).all()


def test_json_round_trip_keeps_everything():
    assert SearchSpace.from_json(SPACE.to_json()) == SPACE
    assert SearchSpace.from_json(SPACE.to_json()).dumps() == SPACE.dumps()


def test_a_newer_schema_is_refused():
    with pytest.raises(DataError, match="schema version 99"):
        SearchSpace.from_json({**SPACE.to_json(), "schema_version": 99})


@pytest.mark.parametrize(
    ("codes", "message"),
    [([0] * 4, "4 codes for 5 groups"), ([0, 0, 0, 0, 4], "code 4 .*(?s:.*)expected: 0..3")],
)
def test_bad_codes_are_refused(codes, message):
    with pytest.raises(UsageError, match=message):
        SPACE.policy(codes)


def test_policies_of_another_model_are_refused_with_the_nearest_layer():
    choices = dict(SPACE.policy([0] * 5).choices)
    choices["layer9"] = choices.pop("layer4")
    with pytest.raises(UsageError, match=r"(?s)differ in layer 'layer4'"):
        SPACE.codes(Policy(choices))


def test_a_choice_that_is_not_offered_lists_what_is():
    choices = {**SPACE.policy([0] * 5).choices, "layer1": "int7src/int8ut"}
    with pytest.raises(UsageError, match=r"(?s)'int7src/int8ut' is not offered.*int2src/int8ut"):
        SPACE.codes(Policy(choices))
