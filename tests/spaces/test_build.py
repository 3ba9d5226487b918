"""Configuration, ties and the resolved space."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import InfeasibleError, UsageError
from spaces.baselines import float_codes, uniform_policies
from spaces.build import build_space
from spaces.config import AutoTies, SpaceConfig
from spaces.describe import describe
from spaces.groups import tie_groups
from spaces.inventory import trace
from tests.models import IMAGE, tiny_conv_net, tiny_transformer
from tests.support.toy import toy_space

CONF = Path(__file__).parents[2] / "conf" / "space"
CONV = trace(tiny_conv_net(), IMAGE)
VIT = trace(tiny_transformer(), IMAGE)
W48 = {"weights": ["int4src", "int8src"], "activations": ["int8ut"]}


def space(config, traced=CONV, supports=None):
    return build_space(SpaceConfig.from_dict(config), traced, supports)


def offered(built, layer):
    return [choice.text for choice in built.groups[built.group_of[layer]].choices]


def test_choices_are_all_pairs_in_the_configured_order():
    built = space({"weights": ["int2src", "int4src"], "activations": ["int4ut", "int8ut"]})
    assert offered(built, "stem.0") == [
        "int2src/int4ut",
        "int4src/int4ut",
        "int2src/int8ut",
        "int4src/int8ut",
    ]
    assert built.cardinality == 4**6


def test_later_rules_win_and_one_choice_means_fixed():
    rules = [
        {"op": "conv2d", "choices": ["int8src/int8ut"]},
        {"name": "block", "weights": ["int2src"], "activations": ["int8ut"]},
        {"depthwise": True, "choices": ["float32/float32", "int8src/int8ut"]},
        {"position": "last", "choices": ["int8src/int8ut@dynamic"]},
    ]
    built = space({**W48, "rules": rules})
    assert offered(built, "stem.0") == ["int8src/int8ut"]
    assert offered(built, "block.conv2") == ["int2src/int8ut"]
    assert offered(built, "depthwise") == ["float32/float32", "int8src/int8ut"]
    assert offered(built, "head") == ["int8src/int8ut@dynamic"]
    assert built.groups[0].is_fixed
    assert built.cardinality == 2


def test_every_layer_can_also_take_the_baselines():
    built = space(W48)
    assert [choice.label for choice in built.groups[0].extra] == ["fp32"]
    assert [choice.label for choice in built.groups[0].all_choices] == ["w4a8", "w8a8", "fp32"]


def test_attention_projections_are_tied_and_can_be_untied():
    tied = space(W48, VIT)
    untied = space({**W48, "auto_ties": {"same_input_linear": False}}, VIT)
    assert len(untied.groups) - len(tied.groups) == 2
    group = tied.groups[tied.group_of["blocks.0.attention.key"]]
    assert len(group.layers) == 3


def test_residual_ties_are_off_unless_asked_for():
    assert len(space(W48).groups) == 6
    built = space({**W48, "auto_ties": {"residual": True}})
    assert ("block.conv2", "block.shortcut.0") in [group.layers for group in built.groups]


def test_convolutions_of_one_input_are_tied_when_asked_for():
    built = space({**W48, "auto_ties": {"same_input_conv": True}})
    assert ("block.conv1", "block.shortcut.0") in [group.layers for group in built.groups]


def test_user_ties_by_regex_merge_with_each_other():
    ties = [["stem.*", r"block\.conv1"], [r"block\.conv1", "head"]]
    groups = tie_groups(CONV, ties, AutoTies())
    assert groups[0] == ("stem.0", "block.conv1", "head")
    assert len(groups) == 4


names = [layer.name for layer in CONV.layers]


@given(st.lists(st.lists(st.sampled_from(names), min_size=1), max_size=5), st.randoms())
def test_groups_are_a_partition_that_holds_every_tie_whatever_their_order(ties, random):
    groups = tie_groups(CONV, [[re.escape(n) for n in tie] for tie in ties], AutoTies())
    assert sorted(name for group in groups for name in group) == sorted(names)
    assert all(list(group) == sorted(group, key=names.index) for group in groups)
    assert [group[0] for group in groups] == sorted((g[0] for g in groups), key=names.index)
    assert all(any(set(tie) <= set(group) for group in groups) for tie in ties)
    assert len(groups) >= len(names) - sum(len(set(tie)) - 1 for tie in ties)
    shuffled = [[re.escape(n) for n in random.sample(tie, len(tie))] for tie in ties]
    assert tie_groups(CONV, random.sample(shuffled, len(ties)), AutoTies()) == groups


def test_tied_layers_keep_what_all_of_them_can_take():
    config = {
        **W48,
        "rules": [{"name": "head", "choices": ["int8src/int8ut", "float32/float32"]}],
        "ties": [["depthwise", "head"]],
    }
    built = space(config)
    assert offered(built, "head") == ["int8src/int8ut"]
    assert {(cut.layer, cut.choice) for cut in built.cuts} == {
        ("depthwise", "int4src/int8ut"),
        ("head", "float32/float32"),
    }


def no_int4(layer, choice):
    return "no 4-bit kernel" if choice.weight.bits == 4 else None


def test_the_device_cuts_choices_only_when_kernels_are_asked_for():
    assert not space(W48, supports=no_int4).cuts
    built = space({**W48, "kernels_only": True}, supports=no_int4)
    assert offered(built, "head") == ["int8src/int8ut"]
    assert {cut.reason for cut in built.cuts} == {"no 4-bit kernel"}


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({}, UsageError, "space offers no choice"),
        (None, UsageError, "(?s)space is None.*a mapping of keys"),
        ({**W48, "rules": 5}, UsageError, r"(?s)space.rules is 5.*a list"),
        ({**W48, "rules": {"name": "head"}}, UsageError, "space.rules is {'name': 'head'}"),
        ({**W48, "ties": "head"}, UsageError, "(?s)space.ties is 'head'.*a list"),
        ({"weights": ["int8src@dynamic"]}, UsageError, "(?s)is dynamic.*at: space"),
        (
            {**W48, "rules": [{"op": "linear", "choices": ["int4src/int8uc"]}]},
            UsageError,
            r"(?s)'int8uc' has more than one scale.*at: space.rules\[0\].*write 'int8ut'",
        ),
        (
            {"choices": ["int4src+percentil/int8ut"]},
            UsageError,
            "(?s)unknown method 'percentil'.*did you mean 'percentile'",
        ),
        (
            {
                "weights": [f"int{b}{s}{g}" for b in range(2, 9) for s in "su" for g in "tc"],
                "activations": ["int4ut", "int6ut", "int8ut"],
            },
            UsageError,
            "(?s)layer 'stem.0' has 86 choices.*at most 62",
        ),
        ({"weights": [4]}, UsageError, "(?s)holds 4.*write int4src"),
        ({"weights": "int4src"}, UsageError, "(?s)is 'int4src'.*a list of formats"),
        ({"weights": ["int9src"]}, UsageError, "9 bits is out of range"),
        ({**W48, "choices": ["float32"]}, UsageError, "both choices and weights"),
        ({**W48, "wieghts": []}, UsageError, "(?s)unknown key 'wieghts'.*did you mean 'weights'"),
        ({**W48, "rules": [{"choices": ["float32"]}]}, UsageError, r"rules\[0\] matches nothing"),
        (
            {**W48, "rules": [{"name": "blok", "choices": ["float32"]}]},
            UsageError,
            r"(?s)rule name 'blok' matches no layer.*at: space.rules\[0\].*did you mean 'block",
        ),
        (
            {**W48, "rules": [{"op": "conv2", "choices": ["float32"]}]},
            UsageError,
            "(?s)op is 'conv2'.*did you mean 'conv2d'",
        ),
        (
            {**W48, "rules": [{"name": "(", "choices": ["float32"]}]},
            UsageError,
            "not a regular expression",
        ),
        (
            {**W48, "ties": [["heat"]]},
            UsageError,
            r"(?s)tie 'heat' matches no layer.*did you mean 'head'",
        ),
        (
            {
                **W48,
                "rules": [{"name": "head", "choices": ["float32/float32"]}],
                "ties": [["depthwise", "head"]],
            },
            UsageError,
            "(?s)tied layers have no choice in common: depthwise: w4a8, w8a8; head: fp32",
        ),
        ({**W48, "kernels_only": "yes"}, UsageError, "(?s)kernels_only is 'yes'.*true or false"),
        ({**W48, "auto_ties": {"residuals": True}}, UsageError, "did you mean 'residual'"),
    ],
)
def test_mistakes_are_named(config, error, message):
    with pytest.raises(error, match=message):
        space(config)


def test_a_layer_without_choices_names_the_cut():
    config = {"choices": ["int4src/int8ut"], "kernels_only": True}
    with pytest.raises(InfeasibleError, match=r"(?s)layer 'stem.0' has no choice left.*no 4-bit"):
        space(config, supports=no_int4)


def test_uniform_policies_are_tagged_once_each():
    built = space({**W48, "rules": [{"position": "last", "choices": ["int8src/int8ut"]}]})
    tags = dict(uniform_policies(built))
    assert list(tags) == ["fp32", "w8a8", "w4a8"]
    labels = {
        tag: [g.all_choices[c].label for g, c in zip(built.groups, codes, strict=True)]
        for tag, codes in tags.items()
    }
    assert set(labels["fp32"]) == {"fp32"}
    assert set(labels["w8a8"]) == {"w8a8"}
    assert labels["w4a8"] == ["w4a8"] * 5 + ["w8a8"]
    assert (float_codes(built) == tags["fp32"]).all()


def test_the_description_holds_choices_ties_cuts_and_size():
    built = space({**W48, "kernels_only": True}, VIT, no_int4)
    text = describe(built)
    assert "8 layers in 6 groups, 1 policies" in text
    assert "tied: blocks.0.attention.query = blocks.0.attention.key" in text
    assert "skipped: 2 x matmul (blocks.0.attention.matmul, …): a product of activations" in text
    assert "cut: int4src/int8ut of 8 layers: no 4-bit kernel" in text
    assert max(len(line) for line in text.splitlines()) < 140


def test_the_description_of_a_deep_model_is_short_and_counts_all_policies():
    text = describe(toy_space(groups=700, choices=3))  # 3^700 = 10^333.985: no float holds it
    assert "700 layers in 700 groups, 9.7e+333 policies" in text
    assert len(text.splitlines()) == 3
    assert "layer0 .. layer699" in text
    assert "16,384 policies" in describe(toy_space(groups=14, choices=2))


@pytest.mark.parametrize("traced", [CONV, VIT], ids=["conv", "transformer"])
@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_space_resolves_on_both_kinds_of_model(path, traced):
    config = yaml.safe_load(path.read_text())
    assert config["name"] == path.stem
    built = space(config, traced)
    assert built.cardinality > 1
    assert len(built.layers) == len(traced.layers)
    assert dict(uniform_policies(built)).keys() >= {"fp32", "w8a8"}
    assert describe(built)
